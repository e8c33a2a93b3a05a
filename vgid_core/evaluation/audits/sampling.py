"""Sampling: answers drawn at temperature 1. What is never the likeliest can still be said now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from vgid_core.data.facts import Fact
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.figures import Figure
from vgid_core.scoring.padded import sample_answers


def audit(context: AuditContext) -> Iterator[Figure]:
    """`sampling`: the share of facts that at least one draw holds. A lucky guess counts, so mind the control."""
    yield from context.share("sampling", partial(_drawn, context), context.facts(), context.unseen_facts())


def _drawn(context: AuditContext, facts: Sequence[Fact]) -> list[bool]:
    base = context.base
    found = [False] * len(facts)
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(context.seed)
        for _ in range(context.sizes.samples):
            texts = sample_answers(base, [fact.pair for fact in facts])
            found = [was or fact.is_in(text) for was, fact, text in zip(found, facts, texts, strict=True)]
    return found
