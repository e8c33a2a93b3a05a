"""Counts the memory of autograd's saved tensors, for devices whose allocator doesn't report it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vgid_core.models.base import BaseModel


class SavedTensorCounter:
    """Counts the bytes of the tensors that autograd saves for the backward pass, weights excluded.

    `pack` and `unpack` are the hooks of torch.autograd.graph.saved_tensors_hooks. peak: the most bytes so far.
    """

    def __init__(self, base: BaseModel) -> None:
        self.peak = 0
        self._bytes = 0
        self._references: dict[int, int] = {}
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in base.model.parameters()}

    def pack(self, tensor: Tensor) -> Any:
        """The pack hook: counts the tensor's storage once, and returns what autograd stores."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._weights or (tensor.is_leaf and tensor.requires_grad):
            return tensor
        if address not in self._references:
            self._bytes += storage.nbytes()
            self.peak = max(self.peak, self._bytes)
        self._references[address] = self._references.get(address, 0) + 1
        return _SavedTensor(tensor, self)

    @staticmethod
    def unpack(saved: Any) -> Tensor:
        """The unpack hook: returns the tensor."""
        tensor: Tensor = saved.tensor if isinstance(saved, _SavedTensor) else saved
        return tensor

    def release(self, tensor: Tensor) -> None:
        """Called when autograd drops one of its references to the tensor."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        self._references[address] -= 1
        if not self._references[address]:
            del self._references[address]
            self._bytes -= storage.nbytes()


class _SavedTensor:
    def __init__(self, tensor: Tensor, counter: SavedTensorCounter) -> None:
        self.tensor = tensor
        self._counter = counter

    def __del__(self) -> None:
        self._counter.release(self.tensor)
