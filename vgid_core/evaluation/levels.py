"""Which audits run at which level, and with how much data.

none: nothing. quick: seconds, for settings that are being tried. standard: what a verdict needs, the default. full:
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vgid_core.config import AuditLevel
from vgid_core.evaluation.audit_context import AuditContext, AuditSizes
from vgid_core.evaluation.audits import (
    each_person,
    everyone_else,
    extraction,
    generated,
    in_context,
    knowledge,
    membership,
    misattributed,
    prefill,
    prompts,
    ranking,
    relearning,
    sampling,
    served_precision,
)
from vgid_core.evaluation.figures import Figure

Audit = Callable[[AuditContext], Iterator[Figure]]

_ALWAYS: tuple[Audit, ...] = (
    generated.audit, misattributed.audit, everyone_else.audit, extraction.audit, each_person.audit, prefill.up_to_fact,
)  # fmt: skip


def name_of(audit: Audit) -> str:
    """Its file's name, with which the names of its figures begin."""
    return audit.__module__.rpartition(".")[2]


@dataclass(frozen=True)
class Level:
    """What is measured. before: of the base, so that its figures can stand beside."""

    sizes: AuditSizes
    before: tuple[Audit, ...]
    after: tuple[Audit, ...]


_QUICK = (*_ALWAYS, ranking.first_token, membership.by_likelihood)
_STANDARD = (
    *_ALWAYS,
    prefill.into_fact,
    ranking.by_likelihood,
    ranking.lens,
    membership.by_likelihood,
    membership.by_gradient,
    relearning.in_domain,
    in_context.audit,
    prompts.audit,
)
_KNOWN = (knowledge.audit, extraction.audit, each_person.audit, ranking.first_token, membership.by_likelihood)

LEVELS: dict[AuditLevel, Level] = {
    "none": Level(AuditSizes(pairs=0), (), ()),
    "quick": Level(AuditSizes(pairs=30), _KNOWN, _QUICK),
    "standard": Level(AuditSizes(pairs=60), (*_KNOWN, prefill.up_to_fact), _STANDARD),
    "full": Level(
        AuditSizes(pairs=200, relearning_steps=(20, 100)),
        (knowledge.audit, *_STANDARD),
        (
            *_STANDARD,
            ranking.lens25,
            ranking.lens75,
            relearning.other_wordings,
            relearning.out_of_domain,
            relearning.general,
            sampling.audit,
            served_precision.audit,
        ),
    ),
}
