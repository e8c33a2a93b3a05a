"""Extraction Strength of the forgotten answers: the most faithful figure that needs outputs alone (2605.24614)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.measures.extraction_strength import extraction_strengths


def audit(context: AuditContext) -> Iterator[Figure]:
    """`extraction_strength`, beside that of unseen people, which the answers' template gives anybody."""
    ask = partial(extraction_strengths, context.scorer)
    yield from context.share("extraction_strength", ask, context.members(), context.unseen())
