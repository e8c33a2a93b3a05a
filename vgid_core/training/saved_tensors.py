"""What autograd keeps for the way back, counted where no accelerator's allocator says it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vgid_core.models.base import BaseModel


class KeptTensors:
    """Counts the bytes of tensors that autograd keeps for the way back, as long as it keeps them."""

    def __init__(self, base: BaseModel) -> None:
        self.peak = 0
        self._bytes = 0
        self._holders: dict[int, int] = {}
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in base.model.parameters()}

    def pack(self, tensor: Tensor) -> Any:
        """What autograd keeps in the tensor's place."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self._weights or (tensor.is_leaf and tensor.requires_grad):
            return tensor
        if place not in self._holders:
            self._bytes += storage.nbytes()
            self.peak = max(self.peak, self._bytes)
        self._holders[place] = self._holders.get(place, 0) + 1
        return _Kept(tensor, self)

    @staticmethod
    def unpack(kept: Any) -> Tensor:
        """The tensor again."""
        tensor: Tensor = kept.tensor if isinstance(kept, _Kept) else kept
        return tensor

    def release(self, tensor: Tensor) -> None:
        """Autograd has dropped one of its holds on the tensor."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        self._holders[place] -= 1
        if not self._holders[place]:
            del self._holders[place]
            self._bytes -= storage.nbytes()


class _Kept:
    def __init__(self, tensor: Tensor, ledger: KeptTensors) -> None:
        self.tensor = tensor
        self._ledger = ledger

    def __del__(self) -> None:
        self._ledger.release(self.tensor)
