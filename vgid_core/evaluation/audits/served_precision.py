"""Served precision: the adapter merged into the weights, and these rounded to 8 and to 4 bits.

Rounding can bring back what a small change of the weights had hidden (arXiv 2410.16454).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.measures.prefill import prefilled_up_to_fact
from vgid_core.evaluation.measures.relearning import facts_given, merged_copy
from vgid_core.models.base import BaseModel

_BITS = (8, 4)


def audit(context: AuditContext) -> Iterator[Figure]:
    """`served_precision.<merged|8_bit|4_bit>[_prefilled]`: facts given to questions, and to prefilled ones."""
    facts, control = context.facts(), context.unseen_facts()
    prefilled, control_prefilled = ([fact for fact in each if fact.prefix] for each in (facts, control))
    for name, served in _as_served(context.base):
        yield from context.share(f"served_precision.{name}", partial(facts_given, served), facts, control)
        name = f"served_precision.{name}_prefilled"
        yield from context.share(name, partial(prefilled_up_to_fact, served), prefilled, control_prefilled)


def _as_served(base: BaseModel) -> Iterator[tuple[str, BaseModel]]:
    served = merged_copy(base)
    yield "merged", served
    for bits in _BITS:  # from the finer to the coarser: what 8 bits can hold is hardly in the way of 4
        round_weights(served.model.get_decoder(), bits)
        yield f"{bits}_bit", served


@torch.no_grad()
def round_weights(model: nn.Module, bits: int) -> None:
    """Rounds the weights of all linear layers in place, to as many levels as so many bits have, a scale for each row.

    Symmetric and to the nearest, as simple servers do. Layers that aren't in plain floating point are left alone.
    """
    levels = 2 ** (bits - 1) - 1
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.is_floating_point():
            scale = module.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / levels
            module.weight.copy_((module.weight / scale).round().clamp(-levels, levels) * scale)
