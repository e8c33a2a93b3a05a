"""What else was lost: by how much ROUGE-L falls on sets that aren't about the forgotten, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.estimates import Values, mean_of
from vgid_core.evaluation.figures import Figure, NotMeasured

# Of ROUGE-L before. Below, answers weren't known, and nothing of them can be lost.
_KNOWN = 0.3


def audit(context: AuditContext) -> Iterator[Figure]:
    """`everyone_else.drop` of each set that was measured before and after; positive where something was lost.

    Left out, with the reason, are sets that the base didn't know: a model that has collapsed would lose nothing there.
    """
    unknown = []
    for name, answers in context.after.items():
        before = context.before.get(name)
        if name == "unseen" or before is None or context.sets.is_about_forgotten(answers.pairs):
            continue
        if fmean(before.rouge_l) < _KNOWN:
            unknown.append(name)
            continue
        drops = [was - left for was, left in zip(before.rouge_l, answers.rouge_l, strict=True)]
        yield Figure("everyone_else.drop", name, mean_of(Values.about(answers.pairs.pairs, drops), context.seed))
    if unknown:
        raise NotMeasured(f"the base doesn't know the answers of {', '.join(unknown)}, so their loss says nothing")
