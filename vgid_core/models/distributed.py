"""Data parallelism: several processes share a run, each with a shard of every batch; gradients are summed.

`accelerate launch` or `torchrun` starts the processes. All draw the same batches from the same seed, and each holds the
whole adapter and optimiser, so only sums of gradients and losses are exchanged. The frozen base can be sharded
(`shard_layers`). In a single process every function here returns its input or does nothing.
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


def init_processes(on_cpu: bool) -> None:
    """Initialises the process group if WORLD_SIZE says that there are several processes. Idempotent."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        PartialState(cpu=on_cpu)
        atexit.register(_destroy_process_group)


def world_size() -> int:
    """The number of processes that share the run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's rank, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that reports and writes: rank 0."""
    return rank() == 0


def local_cuda_device() -> torch.device:
    """This process's CUDA device; with several processes, the one of its local rank."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if world_size() > 1 else torch.device("cuda")


def local_shard(items: Sequence[Item]) -> tuple[Sequence[Item], int]:
    """This process's contiguous part of the items, and the size of the largest part of any process."""
    size = -(-len(items) // world_size())
    return items[rank() * size : (rank() + 1) * size], size


def all_reduce(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor in place by its sum over all processes, in float32. Shapes must agree."""
    if world_size() == 1 or not tensors:
        return
    whole = torch.cat([tensor.flatten().float() for tensor in tensors])
    distributed.all_reduce(whole)
    for tensor, total in zip(tensors, torch.split(whole, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def broadcast(value: Value) -> Value:
    """The value of rank 0, in every process. Blocks until all processes call it."""
    if world_size() == 1:
        return value
    holder = [value]
    distributed.broadcast_object_list(holder)
    return holder[0]


def all_gather(value: Value) -> list[Value]:
    """The values of all processes, by rank. Blocks until all processes call it."""
    if world_size() == 1:
        return [value]
    values = [value] * world_size()
    distributed.all_gather_object(values, value)
    return values


def shard_layers(layers: Sequence[nn.Module], device: torch.device) -> None:
    """Shards each layer's weights over all processes (FSDP, arXiv 2304.11277); a pass gathers one layer at a time.

    Layers move to `device` one by one, so the device never holds the whole model. From then on every process must make
    the same passes.
    """
    mesh = init_device_mesh(device.type, (world_size(),))
    for layer in layers:
        # Each layer is a root module, whose gathered weights FSDP would by default keep until the backward pass.
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def _destroy_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
