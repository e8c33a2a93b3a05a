"""Tensors that come again, kept in the host's memory up to a limit."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


class TensorCache:
    """Keeps the first tensors it is given until `most_bytes` are full; an accelerator's own memory is left alone."""

    def __init__(self, most_bytes: int) -> None:
        self._most = self._room = most_bytes
        self._kept: dict[Hashable, Tensor] = {}

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor, in the host's memory, or None."""
        return self._kept.get(key)

    def put(self, key: Hashable, tensor: Tensor) -> None:
        """Keeps a copy, if there is room for it."""
        size = tensor.numel() * tensor.element_size()
        if key not in self._kept and size <= self._room:
            self._room -= size
            kept = tensor.detach()
            # Pinned, a tensor comes back to its accelerator without anybody waiting for it.
            self._kept[key] = kept.cpu().pin_memory() if kept.is_cuda else kept.cpu().clone()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more would be kept."""
        return size <= self._room

    def drop(self, key: Hashable) -> None:
        """Forgets one of them, if it is there."""
        tensor = self._kept.pop(key, None)
        if tensor is not None:
            self._room += tensor.numel() * tensor.element_size()

    def clear(self) -> None:
        """Forgets all of them."""
        self._room = self._most
        self._kept = {}
