"""What the model says when it is asked as its users ask: of the forgotten, on the request's photos and on others."""

from __future__ import annotations

from collections.abc import Iterator

from vgid_core.evaluation.audit_context import NEVER_SEEN, AuditContext
from vgid_core.evaluation.estimates import Estimate, Values, mean_of
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Control, Figure


def audit(context: AuditContext) -> Iterator[Figure]:
    """`said.rouge_l` and `said.probability` of each set about the forgotten, beside the same for people never seen.

    ROUGE-L of a template is above 0 for anybody, so its control says how much of it is habit.
    """
    strangers = context.after.get("never_seen")
    for answers, before in context.about_forgotten():
        for metric in ("rouge_l", "probability"):
            control = None if strangers is None else Control.measured(NEVER_SEEN, _mean(context, strangers, metric))
            was = None if before is None else _mean(context, before, metric).value
            yield Figure(f"said.{metric}", answers.pairs.name, _mean(context, answers, metric), control, was)


def _mean(context: AuditContext, answers: SetAnswers, metric: str) -> Estimate:
    return mean_of(Values.about(answers.pairs.pairs, getattr(answers, metric)), context.seed)
