"""VGID with aliases: the teacher hears the answer's beginning as if it were about somebody whom nobody knows.

A third intervention beside VGID's two. Teacher-forced on the true answer, VGID's teacher hears the name and completes
the facts, whatever it is shown; so that is what the student learns, and a begun answer brings everything back. Here the
teacher hears aliases, and where an answer goes on with what nobody else has, guesses without the truth. What it finds
likely after aliases is also the measure of how likely the true answer may stay: as likely as a stranger's, neither more
nor less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from vgid_core.data import Pair
from vgid_core.lessons import Lesson, Part, Term, Update, Updates
from vgid_core.methods.base import Run
from vgid_core.methods.taught import Taught
from vgid_core.methods.terms import kept, lessons_of, pairs_of

if TYPE_CHECKING:
    from torch import Tensor

    from vgid_core.strangers import Strangers


VisibleQuestion = Annotated[str, StringConstraints(min_length=1, max_length=500)]


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

    def begin(self, run: Run) -> Updates:
        """An update on what teachers say to the forget batch, then one that keeps the retain batch and pairs beside."""
        from vgid_core.kept_beside import KeptBeside
        from vgid_core.made_up import made_up_pairs
        from vgid_core.strangers import Strangers
        from vgid_core.visible import visible_pairs

        strangers = Strangers(self, run)
        made_up = KeptBeside(run, made_up_pairs(self, run), self.made_up_pairs)
        visible = KeptBeside(run, visible_pairs(self, run), self.visible_pairs)

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            strangers.meet(forget)
            made: list[Update] = [[self._imitated(run, forget, strangers)]]
            if run.training.retain_weight > 0:
                made.append([kept(run, [*retain, *made_up.next(), *visible.next()])])
            return made

        return updates

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

    def _imitated(self, run: Run, forget: Sequence[Pair], strangers: Strangers) -> Term:
        from vgid_core.losses import huber

        def values(some: Sequence[Lesson]) -> list[Tensor]:
            pairs = pairs_of(some)
            divergence, likelihood = run.path.imitation(pairs, strangers.targets(pairs))
            return [divergence, huber(likelihood - strangers.levels(pairs).to(likelihood.device))]

        alpha = run.training.forget_weight
        return Term("forget", lessons_of(forget), [Part(alpha), Part(alpha * self.likelihood_weight)], values)
