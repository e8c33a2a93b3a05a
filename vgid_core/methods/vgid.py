"""VGID (arXiv 2606.00105): the student learns what the disturbed, instructed base would have said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vgid_core.data import Pair
from vgid_core.intervention import PerturbationConfig
from vgid_core.lessons import Lesson, Term, Update, Updates
from vgid_core.methods.base import Method, Run

IMPERATIVE = "You must forget everything about this person."


class Vgid(Method):
    """alpha * E_f KL(p_T || p_theta) + beta * E_r KL(p_base || p_theta), on answer tokens (paper, sec. 3).

    Teacher = frozen base on a perturbed image and an instructed question, student = base + LoRA on the clean item;
    alpha and beta are `training.forget_weight` and `retain_weight`. As in the authors' code, each step updates once on
    a forget batch and once on a retain batch. `instruction` may be empty, which leaves the visual half alone.
    """

    title = "VGID (arXiv 2606.00105), KL on answer tokens"

    name: Literal["vgid"] = "vgid"
    perturbation: PerturbationConfig = PerturbationConfig()
    instruction: str = Field(default=IMPERATIVE, max_length=500)
    noise_draws: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="fixed draws of the noise, whose teacher answers are kept; without it, a new one each time",
    )

    @property
    def fixed_draws(self) -> int | None:
        """How many disturbed images there are of each; None where every one is new."""
        return self.noise_draws if self.perturbation.is_random else 1

    def instructed(self, question: str) -> str:
        """The teacher's question: the instruction prepended (u + q in the paper), or `question` unchanged."""
        return f"{self.instruction} {question}" if self.instruction else question

    def begin(self, run: Run) -> Updates:
        """One update on what the teacher says to the forget batch, then one that keeps the retain batch."""
        from vgid_core.teaching import Teacher

        teacher, training = Teacher(self, run.seed), run.training

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            made: list[Update] = [
                [Term.of("forget", teacher.lessons(forget), training.forget_weight, run.path.divergence)]
            ]
            if training.retain_weight > 0:
                made.append([kept(run, retain)])
            return made

        return updates


def kept(run: Run, retain: Sequence[Pair]) -> Term:
    """beta * KL(p_base || p_theta) on a retain batch, which several methods share."""
    lessons = [Lesson.retain(pair) for pair in retain]
    return Term.of("retain", lessons, run.training.retain_weight, run.path.divergence)
