"""UNDIAL (Dong et al., arXiv 2402.10052): the student learns from the base with the true tokens talked down."""

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


class Undial(Method):
    """alpha * H(softmax(base's logits - strength * [true token]), p_theta) + lambda * L_r, on answer tokens.

    The paper trains without a retain set: that is `training.retain_weight` zero.
    """

    title = "UNDIAL (arXiv 2402.10052) on answer tokens"

    name: Literal["undial"] = "undial"
    strength: float = Field(default=10.0, gt=0, le=100, description="gamma: how far true tokens' logits are lowered")

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        from vgid_core.losses import talked_down, token_cross_entropy

        def values(lessons: Sequence[Lesson]) -> Tensor:
            spoken = [token for lesson in lessons for token in run.path.answer_ids(lesson.pair.answer)]
            target = talked_down(run.path.teacher_logits(lessons), spoken, self.strength)
            return token_cross_entropy(target, run.path.student_logits(pairs_of(lessons)))

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            term = Term.of("forget", lessons_of(forget), run.training.forget_weight, values)
            return joint(run, term, rehearsed(run, retain))

        return updates
