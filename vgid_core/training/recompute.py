"""Gradient checkpointing (arXiv 1604.06174): layers keep their input alone and are recomputed in the backward pass."""

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
    """Within the context, each layer of `model` is recomputed in the backward pass, except the decoder's last.

    Recomputing the last layer would save nothing, since its backward pass comes first. Transformers' own switch works
    in training mode alone, which the student is in only with dropout. PEFT's is reentrant: it needs inputs with
    gradients, without which layers stay untrained (open-unlearning #178).
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
        # Packed rows set the attention implementation for one pass alone. The recomputation needs the same one.
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
