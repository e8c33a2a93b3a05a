"""Several processes on one run: each takes its share of a batch, and gradients are summed over all of it.

They are started by `accelerate launch` or `torchrun`; accelerate finds out who they are and which accelerator is whose.
Every process draws the same batches from the same seed and keeps its own copy of adapter and optimiser, so only sums of
gradients and losses pass between them. Of the frozen base each may hold a share alone (`shard`).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as distributed
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

Item = TypeVar("Item")
Value = TypeVar("Value")


def join(on_cpu: bool) -> None:
    """Meets the other processes, if this one was started as one of several. Once is enough; again does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        PartialState(cpu=on_cpu)
        atexit.register(_part)


def count() -> int:
    """How many processes share the run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that reports and writes."""
    return rank() == 0


def accelerator() -> torch.device:
    """The CUDA device that is this process's own: each has one, where there are several."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if count() > 1 else torch.device("cuda")


def local_shard(items: Sequence[Item]) -> tuple[Sequence[Item], int]:
    """This process's part of the items, which lie side by side, and how many the largest part of any has."""
    size = -(-len(items) // count())
    return items[rank() * size : (rank() + 1) * size], size


def all_reduce(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, taken in float32. All of them pass the same shapes."""
    if count() == 1 or not tensors:
        return
    whole = torch.cat([tensor.flatten().float() for tensor in tensors])
    distributed.all_reduce(whole)
    for tensor, total in zip(tensors, torch.split(whole, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def broadcast(value: Value) -> Value:
    """What the first process has as `value`. All of them wait for each other here."""
    if count() == 1:
        return value
    holder = [value]
    distributed.broadcast_object_list(holder)
    return holder[0]


def all_gather(value: Value) -> list[Value]:
    """What each process has as `value`, by rank. All of them wait for each other here."""
    if count() == 1:
        return [value]
    values = [value] * count()
    distributed.all_gather_object(values, value)
    return values


def shard(layers: Sequence[nn.Module], device: torch.device) -> None:
    """Leaves of each layer's weights a share to each process (FSDP, arXiv 2304.11277); a pass gathers them in turn.

    Layers move to `device` one by one, so that it never holds the whole model. Every process must make the same passes
    from then on.
    """
    mesh = init_device_mesh(device.type, (count(),))
    for layer in layers:
        # Said outright: each layer is a root of its own, and of these FSDP would keep what it has gathered for the way
        # forward, until the next way back.
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
