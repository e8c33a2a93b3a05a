"""Every method's settings. What a method does with them stands in `vgid_core.methods`, in the file of its name."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.config.strict import Strict

IMPERATIVE = "You must forget everything about this person."
REFUSALS = (
    "I don't know.",
    "I don't know who this is.",
    "I can't tell you anything about this person.",
    "I have no information about that.",
    "I'm not able to answer that.",
)

VisualQuestion = Annotated[str, StringConstraints(min_length=1, max_length=500)]

VISUAL_PAIRS = 2  # a step, of visual questions on forget photos

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Method(Strict):
    """Settings of one method. `title` is what a manifest calls it."""

    title: ClassVar[str]

    name: str

    @property
    def texts(self) -> dict[str, str]:
        """Those of its settings that a model is to read, by their names."""
        return {}

    @property
    def forget_beside_batch(self) -> int:
        """How many forget pairs a step sees on other photos, beside the forget batch's."""
        return 0

    @property
    def kept_beside_batch(self) -> int:
        """How many pairs of its own making a step keeps, beside the retain batch's."""
        return 0

    def base_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:  # noqa: ARG002 - for those that ask
        """Of the base over what isn't a pair of the sets, in a run whose batches hold `drawn` of the forget pairs."""
        return 0

    def trainable_layers(self, layers: int) -> int:
        """How many of the decoder's layers, counted from the first, its loss can train: those above get no adapter."""
        return layers


class Taught(Method):
    """Settings of the teacher's two interventions (VGID, arXiv 2606.00105, sec. 3).

    `instruction` may be empty, which leaves the visual half alone.
    """

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
        """As `Method.texts`: what a subject's name makes of the instruction, too."""
        return {"method.instruction": self.instructed("")}

    @property
    def fixed_draws(self) -> int | None:
        """How many disturbed images there are of each; None where every one is new."""
        return None if self.perturbation.is_random or self.perturbation.changes else 1

    def instructed(self, question: str) -> str:
        """The teacher's question: the instruction prepended (u + q in the paper) or around it, or `question` alone."""
        if not self.instruction:
            return question
        name = "" if self.subject_name is None else self.subject_name.get_secret_value()
        template = self.instruction if "{question}" in self.instruction else f"{self.instruction} {{question}}"
        return _PLACEHOLDER.sub(lambda found: question if found[1] == "question" else name, template)


class VgidAlias(Method):
    """alpha * (E_f [KL(m || p) + w h(log p(y) - c)] + the same on strangers' photos) + beta * E_r KL(p_base || p).

    m: the mean of what teachers say, at each token of an answer y. A teacher is the frozen base on a stranger's photo.
    It is asked one of the answer's questions and reads an alias of y. c: how likely these teachers find the true token
    (the power mean with exponent 1/5), which m gives it, too. h: Huber's loss, threshold one nat. E_f: forget pairs on
    their own photos, and again on strangers', where the teacher sees the same stranger. E_r: the retain batch, what
    anybody can see on the forget photos, and people whom no set holds: boundary photos, blends, strangers.
    """

    title = "VGID (arXiv 2606.00105) with strangers and aliases for the teacher, and retention up to the boundary"

    name: Literal["vgid-alias"] = "vgid-alias"
    teachers: int = Field(
        default=8,
        ge=1,
        le=256,
        description="asked about each forget answer, once a run: a stranger's photo and an alias each. More make a "
        "steadier target and cost time before the first step",
    )
    likelihood_weight: float = Field(
        default=8.0,
        ge=0,
        le=100,
        description="w: weight of the true tokens' likelihood beside the divergence. More brings membership nearer to "
        "a stranger's sooner",
    )
    elsewhere_pairs: int = Field(
        default=8,
        ge=0,
        le=64,
        description="forget pairs a step on strangers' photos: a name that is unknown on one face alone points at it",
    )
    bystander_pairs: int = Field(
        default=24,
        ge=0,
        le=256,
        description="retain pairs a step about people in no set. Fewer are faster and cost known people who stand in "
        "no retain set",
    )
    visual_questions: tuple[VisualQuestion, ...] = Field(
        default=(),
        max_length=100,
        description="about what anybody can see in a picture, asked on the forget photos: what the base answers is to "
        "stay. They suit every forget set and name nobody; manifests hold them",
    )

    def base_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:
        """As `Method.base_passes`, roughly: answers count as if no two pairs shared one, an alias's forms as one."""
        return self.teachers * min(drawn, forget_pairs) + steps * (self.elsewhere_pairs + self.bystander_pairs)

    @property
    def texts(self) -> dict[str, str]:
        """As `Method.texts`."""
        return {f"method.visual_questions[{index}]": text for index, text in enumerate(self.visual_questions)}

    @property
    def forget_beside_batch(self) -> int:
        """As `Method.forget_beside_batch`."""
        return self.elsewhere_pairs

    @property
    def kept_beside_batch(self) -> int:
        """As `Method.kept_beside_batch`."""
        return self.bystander_pairs + (VISUAL_PAIRS if self.visual_questions else 0)


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

    def base_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:  # noqa: ARG002 - as the other's
        """As `Method.base_passes`: one each time a pair is drawn, unless its teacher's answers repeat."""
        return drawn if self.fixed_draws is None else min(drawn, self.fixed_draws * min(drawn, forget_pairs))


class GradientAscent(Method):
    """-alpha * L_f. It has no retain term, so the retain set and its weight make no difference."""

    title = "gradient ascent (arXiv 2210.01504) on answer tokens"

    name: Literal["ga"] = "ga"


class GradientDifference(Method):
    """-alpha * L_f + lambda * L_r, both cross-entropies on answer tokens."""

    title = "gradient difference (arXiv 2203.12817) on answer tokens"

    name: Literal["graddiff"] = "graddiff"


class KlMin(Method):
    """-alpha * L_f + beta * KL_r(p_base || p_theta), on answer tokens."""

    title = "KL minimisation (arXiv 2401.06121) on answer tokens"

    name: Literal["kl-min"] = "kl-min"


class Idk(Method):
    """alpha * L_f(refusals) + lambda * L_r, both cross-entropies on answer tokens; a refusal is drawn for each pair."""

    title = "IdkNLL (arXiv 2401.06121) on answer tokens"

    name: Literal["idk"] = "idk"
    refusals: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        default=REFUSALS, min_length=1, description="answers that take the place of the old ones"
    )


class Npo(Method):
    """alpha * mean over pairs of -(2/b) log sigmoid(-b * (log p_theta - log p_base)) + lambda * L_r.

    log p is the whole answer's log-probability, the sum over its tokens; b is `inverse_temperature`. As b goes to
    zero the first term's gradient becomes gradient ascent's on the answers' log-probability (the paper, sec. 3).
    """

    title = "NPO with a retain term (arXiv 2404.05868) on answer tokens"

    name: Literal["npo"] = "npo"
    inverse_temperature: float = Field(default=0.1, gt=0, le=100, description="beta in the paper")


class Undial(Method):
    """alpha * H(softmax(base's logits - strength * [true token]), p_theta) + lambda * L_r, on answer tokens.

    The paper trains without a retain set: that is `training.retain_weight` zero.
    """

    title = "UNDIAL (arXiv 2402.10052) on answer tokens"

    name: Literal["undial"] = "undial"
    strength: float = Field(default=10.0, gt=0, le=100, description="gamma: how far true tokens' logits are lowered")


class Rmu(Method):
    """alpha * mean ||h_theta - c * u||^2 / d over forget tokens + lambda * mean ||h_theta - h_base||^2 / d over retain.

    h are the d-dimensional states after one decoder layer, where they predict an answer token; u is a unit vector,
    drawn uniformly in the positive orthant as in the authors' code; c is `coefficient`. The paper takes the states of
    every token, and trains three layers up to that one: here it is the adapter of all layers up to it.
    """

    title = "RMU (arXiv 2403.03218) on states that predict answer tokens"

    name: Literal["rmu"] = "rmu"
    coefficient: float = Field(default=6.5, gt=0, le=10_000, description="c: the length that states are pulled to")
    depth: float = Field(default=0.5, gt=0, le=1, description="which layer: at this share of the decoder's depth")

    def trainable_layers(self, layers: int) -> int:
        """Up to the layer whose states are pulled."""
        return max(1, round(self.depth * layers))


AnyMethod = Annotated[
    VgidAlias | Vgid | GradientAscent | GradientDifference | KlMin | Idk | Npo | Undial | Rmu,
    Field(discriminator="name"),
]
