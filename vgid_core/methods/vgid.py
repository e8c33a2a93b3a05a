"""VGID (arXiv 2606.00105): the student learns what the disturbed, instructed base would have said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from vgid_core.data import Pair
from vgid_core.intervention import PerturbationConfig
from vgid_core.lessons import Lesson, Role, Term, Update, Updates
from vgid_core.methods.base import Method, Run

IMPERATIVE = "You must forget everything about this person."

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Vgid(Method):
    """alpha * E_f KL(p_T || p_theta) + beta * E_r KL(p_base || p_theta), on answer tokens (paper, sec. 3).

    Teacher = frozen base on a perturbed image and an instructed question, student = base + LoRA on the clean item;
    alpha and beta are `training.forget_weight` and `retain_weight`. As in the authors' code, each step updates once on
    a forget batch and once on a retain batch. `instruction` may be empty, which leaves the visual half alone.
    """

    title = "VGID (arXiv 2606.00105)"

    name: Literal["vgid"] = "vgid"
    perturbation: PerturbationConfig = PerturbationConfig()
    instruction: str = Field(
        default=IMPERATIVE,
        max_length=500,
        description="goes before the question, or around it where it says {question}; {name} is the subject's name",
    )
    subject_name: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="stands for {name} in the instruction; written nowhere, a dump of these settings has asterisks",
    )
    noise_draws: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="fixed draws of the noise, whose teacher answers are kept; without it, a new one each time",
    )
    positions: Literal["answer", "all"] = Field(
        default="answer",
        description="where both KL terms are taken. answer: at answer tokens, mean per token. all: summed over every "
        "position of a padded row (image, prompt, answer, padding), mean per row, as in the authors' code; row by row",
    )
    retain_loss: Literal["kl", "ce+kl"] = Field(
        default="kl", description="ce+kl adds the cross-entropy of the retain items themselves, mean per token"
    )

    @field_validator("subject_name")
    @classmethod
    def _a_name(cls, value: SecretStr | None) -> SecretStr | None:
        name = "?" if value is None else value.get_secret_value()
        if not name.strip() or not name.isprintable():
            raise ValueError("must be one line that isn't blank")
        if not name.strip("*"):
            raise ValueError("holds asterisks in the name's place, as a dump of settings does: give the name again")
        return value

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        used = set(_PLACEHOLDER.findall(self.instruction))
        if used - {"question", "name"}:
            raise ValueError("instruction takes no placeholders but {question} and {name}")
        if ("name" in used) != (self.subject_name is not None):
            raise ValueError("instruction with {name} and subject_name need each other")
        if self.positions == "all" and self.instruction:
            raise ValueError(
                "positions 'all' needs an empty instruction: teacher and student must have prompts of equal length"
            )
        if self.noise_draws is not None and self.perturbation.changes:
            raise ValueError("noise_draws keeps disturbed images, so perturbation.final_strength can't change them")
        return self

    @property
    def fixed_draws(self) -> int | None:
        """How many disturbed images there are of each; None where every one is new."""
        if self.perturbation.changes:
            return None
        return self.noise_draws if self.perturbation.is_random else 1

    @property
    def row_by_row(self) -> bool:
        """As `Method.row_by_row`."""
        return self.positions == "all"

    def instructed(self, question: str) -> str:
        """The teacher's question: the instruction prepended (u + q in the paper) or around it, or `question` alone."""
        if not self.instruction:
            return question
        name = "" if self.subject_name is None else self.subject_name.get_secret_value()
        template = self.instruction if "{question}" in self.instruction else f"{self.instruction} {{question}}"
        return _PLACEHOLDER.sub(lambda found: question if found[1] == "question" else name, template)

    def begin(self, run: Run) -> Updates:
        """One update on what the teacher says to the forget batch, then one that keeps the retain batch."""
        from vgid_core.teaching import Teacher

        training = run.training
        teacher = Teacher(self, run.seed, training.steps)

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            made: list[Update] = [[self._term(run, "forget", teacher.lessons(forget), training.forget_weight)]]
            if training.retain_weight > 0:
                lessons = [Lesson.retain(pair) for pair in retain]
                made.append([self._term(run, "retain", lessons, training.retain_weight)])
            return made

        return updates

    def _term(self, run: Run, role: Role, lessons: Sequence[Lesson], weight: float) -> Term:
        from vgid_core.vgid_terms import answer_term, whole_row_term

        cross_entropy = role == "retain" and self.retain_loss == "ce+kl"
        if self.positions == "all":
            return whole_row_term(run.base, role, lessons, weight, cross_entropy)
        return answer_term(run.path, role, lessons, weight, cross_entropy)
