"""Generated answers about the forgotten, on the request's photos and on others."""

from __future__ import annotations

from collections.abc import Iterator

from vgid_core.evaluation.audit_context import UNSEEN, AuditContext
from vgid_core.evaluation.estimates import Estimate, Values, mean_of
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Control, Figure


def audit(context: AuditContext) -> Iterator[Figure]:
    """`generated.rouge_l` and `generated.probability` of each set about the forgotten.

    Beside them stand the same figures of unseen people: ROUGE-L of a template is above 0 for anybody, and this control
    says how much of it is habit.
    """
    unseen = context.after.get("unseen")
    for answers, before in context.about_forgotten():
        for metric in ("rouge_l", "probability"):
            control = None if unseen is None else Control.measured(UNSEEN, _mean(context, unseen, metric))
            was = None if before is None else _mean(context, before, metric).value
            yield Figure(f"generated.{metric}", answers.pairs.name, _mean(context, answers, metric), control, was)


def _mean(context: AuditContext, answers: SetAnswers, metric: str) -> Estimate:
    return mean_of(Values.about(answers.pairs.pairs, getattr(answers, metric)), context.seed)
