"""A cache of tensors in host memory with a size limit."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


class TensorCache:
    """Holds the first tensors it is given, up to `max_bytes`. Evicts nothing: later tensors aren't stored."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._free_bytes = max_bytes
        self._tensors: dict[Hashable, Tensor] = {}

    def get(self, key: Hashable) -> Tensor | None:
        """The cached tensor, on the host, or None."""
        return self._tensors.get(key)

    def put(self, key: Hashable, tensor: Tensor) -> None:
        """Stores a detached copy on the host if it fits."""
        size = tensor.numel() * tensor.element_size()
        if key not in self._tensors and size <= self._free_bytes:
            self._free_bytes -= size
            stored = tensor.detach()
            # Pinned memory can be copied back to the accelerator asynchronously.
            self._tensors[key] = stored.cpu().pin_memory() if stored.is_cuda else stored.cpu().clone()

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more would fit."""
        return size <= self._free_bytes

    def drop(self, key: Hashable) -> None:
        """Removes a tensor if it is stored."""
        tensor = self._tensors.pop(key, None)
        if tensor is not None:
            self._free_bytes += tensor.numel() * tensor.element_size()

    def clear(self) -> None:
        """Removes all tensors."""
        self._free_bytes = self._max_bytes
        self._tensors = {}
