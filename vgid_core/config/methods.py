"""Settings of VGID, and the union of all methods. `vgid_core.methods` implements each in the module of its name."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from vgid_core.config.method_base import Method
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.config.rivals import GradientAscent, GradientDifference, Idk, KlMin, Npo, Rmu, Undial

IMPERATIVE = "You must forget everything about this person."

VisualQuestion = Annotated[str, StringConstraints(min_length=1, max_length=500)]

VISUAL_PAIRS = 2  # pairs of visual questions on forget photos in a step

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class TeacherInterventions(Method):
    """Settings of the teacher's two interventions: perturbed image and instructed question (arXiv 2606.00105, sec. 3).

    With an empty `instruction` the question stays unchanged.
    """

    perturbation: PerturbationConfig = PerturbationConfig()
    instruction: str = Field(
        default=IMPERATIVE,
        max_length=500,
        description="put before the question, or around {question} if it holds that; {name} is the subject's name",
    )
    subject_name: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="replaces {name} in the instruction. Never written down: dumps of settings show asterisks",
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
    def _placeholders_are_known(self) -> Self:
        used = set(_PLACEHOLDER.findall(self.instruction))
        if used - {"question", "name"}:
            raise ValueError("instruction takes no placeholders but {question} and {name}")
        if ("name" in used) != (self.subject_name is not None):
            raise ValueError("instruction with {name} and subject_name need each other")
        return self

    @property
    def texts(self) -> dict[str, str]:
        """As `Method.texts`: the instruction with the subject's name."""
        return {"method.instruction": self.instructed("")}

    @property
    def fixed_draws(self) -> int | None:
        """The number of perturbed versions of each image; None if each step draws a new one."""
        return None if self.perturbation.is_random or self.perturbation.is_scheduled else 1

    def instructed(self, question: str) -> str:
        """The teacher's question: `question` with the instruction before it (the paper's u + q) or around it."""
        if not self.instruction:
            return question
        name = "" if self.subject_name is None else self.subject_name.get_secret_value()
        template = self.instruction if "{question}" in self.instruction else f"{self.instruction} {{question}}"
        return _PLACEHOLDER.sub(lambda found: question if found[1] == "question" else name, template)


class VgidSubstitute(Method):
    """alpha * (L_own + L_off_target) + beta * L_keep, each a mean over answer tokens.

    p: the student, y: the true token.

    L_own = KL(m || p) + w H(log p(y) - c), on forget pairs. m: the teachers' mean distribution. A teacher is the frozen
    base on an unseen face, asked one of the answer's questions, reading a substitute of the answer. c: the log of the
    power mean of the teachers' probabilities of y; m is changed so that y has that probability. H: Huber's loss with
    threshold 1 nat.

    L_off_target = KL(t || p) + w g H(log p(y) - c), on forget pairs with unseen faces. t: what the base says of the
    same unseen face, reading a substitute. g: 1 after the first token that the substitute replaces, else 0.

    L_keep = KL(p_0 || p) + 2 s |h - h_0|^2 / |h_0|^2, on the retain batch, visual questions on forget photos, and
    people in no set: boundary photos, two retain photos in one, unseen faces. p_0: the base. h: the last states. s: 1
    at the second and later tokens of answers on unseen faces, else 0.
    """

    title = (
        "VGID (arXiv 2606.00105) with unseen faces and substitutes for the teacher, and retention up to the boundary"
    )

    name: Literal["vgid-substitute"] = "vgid-substitute"
    teachers: int = Field(
        default=8,
        ge=1,
        le=256,
        description="teachers of each forget answer, each with an unseen face and a substitute of the answer. More "
        "make the target steadier and cost time before the answer's first step",
    )
    likelihood_weight: float = Field(
        default=8.0,
        ge=0,
        le=100,
        description="w: weight of the true tokens' likelihood term. More brings membership scores to an unseen "
        "person's sooner",
    )
    off_target_pairs: int = Field(
        default=8,
        ge=0,
        le=64,
        description="forget pairs on unseen faces in a step. Without them, a name is unknown on one face alone, "
        "which points at it",
    )
    neighbour_pairs: int = Field(
        default=24,
        ge=0,
        le=256,
        description="retain pairs about people in no set in a step. Fewer are faster, and harm known people who are in "
        "no retain set",
    )
    visual_questions: tuple[VisualQuestion, ...] = Field(
        default=(),
        max_length=100,
        description="questions about what anybody can see in a picture, asked on the forget photos: the base's answers "
        "are to stay. They should suit any forget set and name nobody: manifests hold them",
    )

    def teacher_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:
        """As `Method.teacher_passes`, approximately: as if pairs shared no answers, and a substitute had one form."""
        return self.teachers * min(drawn, forget_pairs) + steps * (self.off_target_pairs + self.neighbour_pairs)

    @property
    def texts(self) -> dict[str, str]:
        """As `Method.texts`."""
        return {f"method.visual_questions[{index}]": text for index, text in enumerate(self.visual_questions)}

    @property
    def extra_forget_pairs(self) -> int:
        """As `Method.extra_forget_pairs`."""
        return self.off_target_pairs

    @property
    def extra_retain_pairs(self) -> int:
        """As `Method.extra_retain_pairs`."""
        return self.neighbour_pairs + (VISUAL_PAIRS if self.visual_questions else 0)


class Vgid(TeacherInterventions):
    """alpha * E_f KL(p_T || p_theta) + beta * E_r KL(p_base || p_theta), on answer tokens (paper, sec. 3).

    The teacher is the frozen base on a perturbed image and an instructed question, the student the base with LoRA on
    the unchanged pair. alpha and beta are `training.forget_weight` and `training.retain_weight`. As in the authors'
    code, a step makes one update on a forget batch and one on a retain batch.
    """

    title = "VGID (arXiv 2606.00105)"

    name: Literal["vgid"] = "vgid"
    noise_draws: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="number of fixed noise draws, whose teacher outputs are cached. By default each step draws anew",
    )

    @model_validator(mode="after")
    def _draws_have_one_strength(self) -> Self:
        if self.noise_draws is not None and self.perturbation.is_scheduled:
            raise ValueError("noise_draws keeps perturbed images, so perturbation.final_strength can't change them")
        return self

    @property
    def fixed_draws(self) -> int | None:
        """As `TeacherInterventions.fixed_draws`; `noise_draws` if that is set."""
        return self.noise_draws if self.noise_draws is not None and self.perturbation.is_random else super().fixed_draws

    def teacher_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:  # noqa: ARG002 - as in Method
        """As `Method.teacher_passes`: one for each drawn pair, or one for each pair and fixed draw."""
        return drawn if self.fixed_draws is None else min(drawn, self.fixed_draws * min(drawn, forget_pairs))


AnyMethod = Annotated[
    VgidSubstitute | Vgid | GradientAscent | GradientDifference | KlMin | Idk | Npo | Undial | Rmu,
    Field(discriminator="name"),
]
