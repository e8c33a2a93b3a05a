"""The decoder's last layer at a few places alone: of what it computes elsewhere, only keys and values are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def computed_at(layer: nn.Module, places: Tensor) -> Iterator[None]:
    """Within, the layer's MLP, queries and attention outputs are computed at these places [some], and zero elsewhere.

    For rows of batch size one, and the parts that the layer has under their usual names.
    """
    names = ("mlp", "self_attn.q_proj", "self_attn.o_proj")
    parts: list[Any] = [module for name, module in layer.named_modules() if name in names]
    # A fused adapter is an attribute of its module, which hides the class's own forward.
    before = [vars(part).get("forward") for part in parts]
    for part in parts:
        part.forward = _at(part.forward, places)
    try:
        yield
    finally:
        for part, forward in zip(parts, before, strict=True):
            del part.forward
            if forward is not None:
                part.forward = forward


def _at(whole: Callable[[Tensor], Tensor], places: Tensor) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        some = whole(states[:, places])
        return some.new_zeros(*states.shape[:-1], some.shape[-1]).index_copy(1, places, some)

    return forward
