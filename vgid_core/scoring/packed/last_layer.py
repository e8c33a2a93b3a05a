"""Restricts the decoder's last layer to the positions whose outputs are needed; elsewhere only keys and values are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def compute_only_at(layer: nn.Module, indices: Tensor) -> Iterator[None]:
    """Within the context, MLP, queries and attention output of the layer are computed at `indices` and zero elsewhere.

    indices: [some], into a row of batch size one. Applies to those of the three modules that the layer has under their
    usual names.
    """
    names = ("mlp", "self_attn.q_proj", "self_attn.o_proj")
    modules: list[Any] = [module for name, module in layer.named_modules() if name in names]
    # A fused LoRA's forward is an instance attribute, which hides the class's forward and must come back afterwards.
    before = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = _restrict(module.forward, indices)
    try:
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


def _restrict(full: Callable[[Tensor], Tensor], indices: Tensor) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        some = full(states[:, indices])
        return some.new_zeros(*states.shape[:-1], some.shape[-1]).index_copy(1, indices, some)

    return forward
