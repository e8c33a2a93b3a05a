"""VGID (arXiv 2606.00105): the student learns what the disturbed, instructed base would have said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from vgid_core.data import Pair
from vgid_core.lessons import Term, Update, Updates
from vgid_core.methods.base import Run
from vgid_core.methods.taught import Taught
from vgid_core.methods.terms import kept


class Vgid(Taught):
    """alpha * E_f KL(p_T || p_theta) + beta * E_r KL(p_base || p_theta), on answer tokens (paper, sec. 3).

    Teacher = frozen base on a perturbed image and an instructed question, student = base + LoRA on the clean item;
    alpha and beta are `training.forget_weight` and `retain_weight`. As in the authors' code, each step updates once on
    a forget batch and once on a retain batch. `instruction` may be empty, which leaves the visual half alone.
    """

    title = "VGID (arXiv 2606.00105)"

    name: Literal["vgid"] = "vgid"
    noise_draws: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="fixed draws of the noise, whose teacher answers are kept; without it, a new one each time",
    )

    @model_validator(mode="after")
    def _draws_are_of_one_strength(self) -> Self:
        if self.noise_draws is not None and self.perturbation.changes:
            raise ValueError("noise_draws keeps disturbed images, so perturbation.final_strength can't change them")
        return self

    @property
    def fixed_draws(self) -> int | None:
        """As `Taught.fixed_draws`; as many as `noise_draws` says, if it does."""
        return self.noise_draws if self.noise_draws is not None and self.perturbation.is_random else super().fixed_draws

    def teacher_passes(self, drawn: int, forget_pairs: int) -> int:
        """As `Method.teacher_passes`: one each time a pair is drawn, unless its teacher's answers repeat."""
        return drawn if self.fixed_draws is None else min(drawn, self.fixed_draws * min(drawn, forget_pairs))

    def begin(self, run: Run) -> Updates:
        """One update on what the teacher says to the forget batch, then one that keeps the retain batch."""
        from vgid_core.teaching import Teacher

        training, path = run.training, run.path
        teacher = Teacher(self, run.seed, run.steps)

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            made: list[Update] = [[Term.of("forget", teacher.lessons(forget), training.forget_weight, path.divergence)]]
            if training.retain_weight > 0:
                made.append([kept(run, retain)])
            return made

        return updates
