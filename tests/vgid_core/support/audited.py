"""Contexts of audits, and figures by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from vgid_core import PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audit_context import AuditContext, AuditSizes
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Figure
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


def context_of(base: BaseModel | None, **changes: object) -> AuditContext:
    """An audit's context, of all sets unless they are changed. base: None for audits that ask no model."""
    values: dict[str, object] = {
        "base": base,
        "scorer": None if base is None else PackedScorer(base),
        "sets": AuditSets(FORGET, RETAIN, UNSEEN),
        "sizes": AuditSizes(pairs=60, relearning_steps=(2,), samples=2),
        "seed": 0,
        "after": {},
    }
    return AuditContext(**(values | changes))  # type: ignore[arg-type]


def answered(items: PairSet, rouge_l: Sequence[float], probability: Sequence[float] | None = None) -> SetAnswers:
    """Answers whose figures are given."""
    return SetAnswers(items, [""] * len(items), rouge_l, probability or rouge_l)


def unnamed(items: PairSet) -> PairSet:
    """The same pairs, which name nobody and have no fact of their own."""
    return PairSet(items.name, tuple(replace(pair, person=None, fact=None) for pair in items))


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    """The figures by name."""
    return {figure.name: figure for figure in figures}
