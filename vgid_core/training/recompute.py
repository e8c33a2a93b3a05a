"""Layers that keep nothing but their input, and are computed again on the way back (arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def recomputed_layers(model: Any) -> Iterator[None]:
    """Within, every layer of `model` but the decoder's last one is computed again on the way back.

    The last one's turn comes at once, so there is nothing to save. Transformers' own switch does nothing outside of
    training mode, which the student is in with dropout alone, and PEFT's needs inputs that carry gradients, without
    which layers stay untrained (open-unlearning #178): the non-reentrant kind used here doesn't.
    """
    decoder = model.get_decoder()
    found: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    layers = [module for module in found if module is not decoder.layers[-1]]
    for layer in layers:
        layer.forward = _recomputed(layer.forward, decoder.config)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed(forward: Callable[..., Any], config: Any) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        # Packed rows choose their attention for one pass; the way back comes after it.
        return nullcontext(), _attention(config, config._attn_implementation)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False, context_fn=contexts)

    return wrapped


@contextmanager
def _attention(config: Any, name: str) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
