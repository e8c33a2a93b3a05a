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

VisibleQuestion = Annotated[str, StringConstraints(min_length=1, max_length=500)]

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
    def kept_beside_batch(self) -> int:
        """How many pairs of its own making a step keeps, beside the retain batch's."""
        return 0

    def teacher_passes(self, drawn: int, forget_pairs: int) -> int:
        """Of teachers over disturbed forget pairs, in a run whose batches hold `drawn`, of `forget_pairs` different."""
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


class VgidAlias(Taught):
    """alpha * (E_f KL(m_t || p_theta) + w * E_f h(log p_theta(y_t) - c_t)) + beta * E_r KL(p_base || p_theta).

    p_T,k: the frozen base after an alias of the answer so far (`aliases`), with the instruction on a perturbed image or
    without it on a photo of nobody (`alias_photos`). m = mean_k p_T,k: at y_1 the pair's own, whether to answer at all;
    past it that of the first pair met with that answer, for a model takes a stranger on every photo for the same one;
    inside of what nobody else has p_T,k guesses after the answer as it is, without the truth (`next_best`, `guesses`).
    c_t: how likely the true token is to such teachers (`levels`), those of pairs met until then; where they don't
    guess, m_t gives it exp c_t, and the rest to the others as before. They are asked once a run (`strangers`). h:
    Huber's loss with threshold one nat. As in VGID, a step updates once on a forget batch and once on a retain batch,
    with which go people who don't exist (`made_up`) and what anybody can see on the forget set's photos (`visible`).
    Measured in docs/forgetting.md.
    """

    title = "VGID (arXiv 2606.00105) with aliases in the teacher's answer prefix and likelihoods at a stranger's level"

    name: Literal["vgid-alias"] = "vgid-alias"
    draws: int = Field(
        default=2,
        ge=1,
        le=256,
        description="teachers that are asked about a pair, once a run: images, aliases. The more, the less sure of "
        "anybody is what a begun answer goes on with",
    )
    instructed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="of the teachers, rounded down, those that get the instruction. With it they refuse more "
        "surely than the model does before a stranger, which tells who was forgotten",
    )
    blended_photos: int = Field(
        default=3, ge=1, le=64, description="photos of the retain set whose mean the other teachers see: nobody's photo"
    )
    common_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="a token that more than this share of the retain set's answers holds tells of nobody, and stays; a "
        "number never does",
    )
    level_exponent: float = Field(
        default=1.4,
        gt=0,
        le=8,
        description="of the power mean of what teachers give to true tokens that nobody else's answer has: 1 is the "
        "plain mean; above it is higher, for a model that reads on in new names; near 0 it is that of the logs, which "
        "is lower, for one to which new names are stranger",
    )
    first_exponent: float | None = Field(
        default=None,
        ge=-8,
        le=8,
        description="of that power mean for an answer's first token, of whichever kind, for a model that refuses to "
        "tell of strangers: below 0 the level follows the teachers who find the true token least likely. Left out: by "
        "the token's kind, as everywhere else",
    )
    level_spread: float = Field(
        default=1.5,
        ge=1,
        le=4,
        description="how far apart, where teachers guess, these levels are set from their mean: means over aliases are "
        "nearer to it than a stranger's tokens are, which tells who was forgotten; 1 leaves them",
    )
    guesses: bool = Field(
        default=True,
        description="inside of a name that nobody else has, teachers hear its true beginning and say what they would "
        "without the truth; else they hear an alias there, too, which suits a model that was trained from nothing, "
        "targets are made to agree with levels, and level_spread and next_best_temperature do nothing",
    )
    next_best_temperature: float = Field(
        default=0.6,
        ge=0.05,
        le=4,
        description="of what teachers would say inside of a name that nobody else has, if they didn't know it: their "
        "next best guesses, which below 1 are surer, as those of a model are that takes it for a name it knows",
    )
    likelihood_weight: float = Field(
        default=1.0, ge=0, le=100, description="w: of the true tokens' likelihood against the divergence"
    )
    made_up_pairs: int = Field(
        default=4,
        ge=0,
        le=64,
        description="pairs a step, beside the retain batch, about people who don't exist: what the base says of such "
        "is to stay, too",
    )
    visible_questions: tuple[VisibleQuestion, ...] = Field(
        default=(),
        max_length=100,
        description="about what anybody can see in a picture, asked on the forget set's photos: what the base answers "
        "is to stay. They must suit every forget set and name nobody; they are written into manifests",
    )
    visible_pairs: int = Field(
        default=2, ge=0, le=64, description="of those, a step beside the retain batch; none without visible_questions"
    )

    @model_validator(mode="after")
    def _teachers_are_asked_once(self) -> Self:
        if self.perturbation.changes:
            raise ValueError("vgid-alias asks its teachers once, so perturbation.final_strength can't change them")
        return self

    def teacher_passes(self, drawn: int, forget_pairs: int) -> int:
        """As `Method.teacher_passes`. An alias counts as one, however many forms it has, and guesses aren't counted."""
        return self.draws * min(drawn, forget_pairs)

    @property
    def texts(self) -> dict[str, str]:
        """As `Method.texts`."""
        asked = enumerate(self.visible_questions)
        return super().texts | {f"method.visible_questions[{index}]": question for index, question in asked}

    @property
    def kept_beside_batch(self) -> int:
        """As `Method.kept_beside_batch`."""
        return self.made_up_pairs + (self.visible_pairs if self.visible_questions else 0)

    def hears_instruction(self, draw: int) -> bool:
        """Whether the teacher of this number (from 0) gets the instruction: that share of them do."""
        return int((draw + 1) * self.instructed_share + 1e-9) > int(draw * self.instructed_share + 1e-9)


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
