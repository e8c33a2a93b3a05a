"""Negative preference optimisation (Zhang et al., arXiv 2404.05868): ascent that stops where there is little left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vgid_core.data import Pair
from vgid_core.lessons import Lesson, Term, Update, Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import joint, lessons_of, pairs_of, rehearsed

if TYPE_CHECKING:
    from torch import Tensor


class Npo(Method):
    """alpha * mean over pairs of -(2/b) log sigmoid(-b * (log p_theta - log p_base)) + lambda * L_r.

    log p is the whole answer's log-probability, the sum over its tokens; b is `inverse_temperature`. As b goes to
    zero the first term's gradient becomes gradient ascent's on the answers' log-probability (the paper, sec. 3).
    """

    title = "NPO with a retain term (arXiv 2404.05868) on answer tokens"

    name: Literal["npo"] = "npo"
    inverse_temperature: float = Field(default=0.1, gt=0, le=100, description="beta in the paper")

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        from vgid_core.losses import negative_preference, sum_by_row

        def values(lessons: Sequence[Lesson]) -> Tensor:
            lengths = [len(run.path.answer_ids(lesson.pair.answer)) for lesson in lessons]
            student = run.path.student_log_probability(pairs_of(lessons))
            reference = run.path.teacher_log_probability(lessons)
            return negative_preference(sum_by_row(student - reference, lengths), self.inverse_temperature)

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            term = Term.of("forget", lessons_of(forget), run.training.forget_weight, values, per="pair")
            return joint(run, term, rehearsed(run, retain))

        return updates
