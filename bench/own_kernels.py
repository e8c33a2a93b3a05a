"""Times our fused products beside plain torch, torch's own checkpointing, PEFT and Liger, and counts what they hold.

    pip install --no-deps liger-kernel
    python -m bench.own_kernels [--runs 5]

Forward and backward pass of (1) the KL from a teacher to a student over an output matrix, and (2) a linear layer with
its LoRA. All take turns; without liger-kernel its row is left out. On a CPU one thread is used. Writes
bench/results/own_kernels.json.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from bench.parts.machine import device_at_hand, now, save, spread
from vgid_core.lora.fused_product import fuse_lora
from vgid_core.losses.fused_linear import HEAD_CHUNK, linear_kl
from vgid_core.losses.token_losses import token_kl

TOKENS, HIDDEN, VOCABULARY = 1024, 1024, 32_000
RANK, WIDE = 16, 4096

Compute = Callable[[], Tensor]


@dataclass(frozen=True)
class States:
    """A student's and a teacher's last states [tokens, hidden] and their output matrix [vocabulary, hidden]."""

    student: Tensor
    teacher: Tensor
    head: Tensor

    @classmethod
    def drawn(cls, device: torch.device) -> States:
        """Random ones, in bfloat16 on an accelerator and float32 on a CPU."""
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        student, teacher, head = (
            torch.randn(count, HIDDEN, device=device, dtype=dtype) for count in (TOKENS, TOKENS, VOCABULARY)
        )
        return cls(student.requires_grad_(), teacher, head / HIDDEN**0.5)


def kl_ways(states: States) -> dict[str, Compute]:
    """Ways to the same mean KL."""
    student, teacher, head = states.student, states.teacher, states.head

    def of_chunk(part: Tensor, other: Tensor) -> Tensor:
        return token_kl(other @ head.T, part @ head.T)

    def chunked() -> Tensor:
        parts = zip(torch.split(student, HEAD_CHUNK), torch.split(teacher, HEAD_CHUNK), strict=True)
        return torch.cat([checkpoint(of_chunk, *both, use_reentrant=False) for both in parts]).mean()

    ways: dict[str, Compute] = {
        "ours": lambda: linear_kl(student, teacher, head).mean(),
        "plain torch": lambda: of_chunk(student, teacher).mean(),
        "torch, chunks checkpointed": chunked,
    }
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        loss = LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False, chunk_size=HEAD_CHUNK
        )
        labels = torch.zeros(TOKENS, dtype=torch.long, device=head.device)
        ways["Liger"] = lambda: loss(student, head, teacher, head, labels)
    return ways


def lora_ways(device: torch.device, dtype: torch.dtype) -> dict[str, Compute]:
    """A wide layer with its LoRA, fused and as PEFT computes it."""
    inputs = torch.randn(TOKENS, HIDDEN, device=device, dtype=dtype).requires_grad_()

    def layer(fuse: bool) -> Compute:
        plain = nn.Sequential(nn.Linear(HIDDEN, WIDE, bias=False))
        get_peft_model(plain, LoraConfig(r=RANK, target_modules=["0"]))
        plain.to(device, dtype)
        if fuse:
            fuse_lora(plain)
        return lambda: torch.as_tensor(plain(inputs)).float().square().mean()

    return {"ours": layer(fuse=True), "PEFT": layer(fuse=False)}


def measured(ways: dict[str, Compute], runs: int) -> dict[str, dict[str, Any]]:
    """By turns: milliseconds of both passes, and the megabytes held in between."""
    held = {name: _held(compute) for name, compute in ways.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    losses = {}
    for _ in range(runs):
        for name, compute in ways.items():
            started = now()
            loss = compute()
            loss.backward()  # type: ignore[no-untyped-call]
            milliseconds[name].append((now() - started) * 1000)
            losses[name] = float(loss.detach())
    return {name: {"ms": spread(milliseconds[name]), "held_mb": held[name], "loss": losses[name]} for name in ways}


def _held(compute: Compute) -> float | None:
    """What the graph holds, in megabytes. None for Liger, whose functional transforms allow no hooks."""
    held: dict[int, int] = {}
    try:
        with saved_tensors_hooks(partial(_noted, held), lambda kept: kept):
            loss = compute()
    except RuntimeError:
        compute().backward()  # type: ignore[no-untyped-call]
        return None
    loss.backward()  # type: ignore[no-untyped-call]
    return sum(held.values()) / 1e6


def _noted(held: dict[int, int], kept: Tensor) -> Tensor:
    held[kept.data_ptr()] = kept.nbytes
    return kept


def main() -> None:
    """Measures both, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    torch.manual_seed(0)
    states = States.drawn(device_at_hand())
    figures = {
        "kl": measured(kl_ways(states), runs),
        "lora": measured(lora_ways(states.head.device, states.head.dtype), runs),
    }
    table = Table("product", "way", "ms (smallest-largest)", "held, MB", "loss")
    for product, rows in figures.items():
        for name, row in rows.items():
            ms = row["ms"]
            times = f"{ms['median']:.0f} ({ms['min']:.0f}-{ms['max']:.0f})"
            held = "" if row["held_mb"] is None else f"{row['held_mb']:.0f}"
            table.add_row(product, name, times, held, f"{row['loss']:.5f}")
    Console().print(table)
    print("written:", save("own_kernels", {"figures": figures}, seed=0, runs=runs))


if __name__ == "__main__":
    main()
