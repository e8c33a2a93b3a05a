"""Settings of the methods that VGID is compared with. `vgid_core.methods` implements each in the module of its name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vgid_core.config.method_base import Method

REFUSALS = (
    "I don't know.",
    "I don't know who this is.",
    "I can't tell you anything about this person.",
    "I have no information about that.",
    "I'm not able to answer that.",
)


class GradientAscent(Method):
    """-alpha * L_f. It has no retain term: the retain set and its weight have no effect."""

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
    """alpha * L_f(refusals) + lambda * L_r, both cross-entropies on answer tokens. Each pair draws a refusal."""

    title = "IdkNLL (arXiv 2401.06121) on answer tokens"

    name: Literal["idk"] = "idk"
    refusals: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        default=REFUSALS, min_length=1, description="answers that replace the forget set's"
    )


class Npo(Method):
    """alpha * mean over pairs of -(2/b) log sigmoid(-b * (log p_theta - log p_base)) + lambda * L_r.

    log p is the whole answer's log-probability, the sum over its tokens. b is `inverse_temperature`. As b goes to zero,
    the first term's gradient becomes that of gradient ascent on the answers' log-probability (the paper, sec. 3).
    """

    title = "NPO with a retain term (arXiv 2404.05868) on answer tokens"

    name: Literal["npo"] = "npo"
    inverse_temperature: float = Field(default=0.1, gt=0, le=100, description="beta in the paper")


class Undial(Method):
    """alpha * H(softmax(base's logits - strength * [true token]), p_theta) + lambda * L_r, on answer tokens.

    The paper trains without a retain set: set `training.retain_weight` to zero for that.
    """

    title = "UNDIAL (arXiv 2402.10052) on answer tokens"

    name: Literal["undial"] = "undial"
    strength: float = Field(
        default=10.0, gt=0, le=100, description="gamma: by how much the true token's logit is lowered"
    )


class Rmu(Method):
    """alpha * mean ||h_theta - c * u||^2 / d over forget tokens + lambda * mean ||h_theta - h_base||^2 / d over retain.

    h: the d-dimensional states after one decoder layer at positions that predict an answer token. u: a random unit
    vector without negative entries, as in the authors' code. c: `coefficient`. The paper uses the states of all tokens
    and trains three layers up to that one; here the adapter of all layers up to it is trained.
    """

    title = "RMU (arXiv 2403.03218) on states that predict answer tokens"

    name: Literal["rmu"] = "rmu"
    coefficient: float = Field(default=6.5, gt=0, le=10_000, description="c: norm of the states' target")
    depth: float = Field(default=0.5, gt=0, le=1, description="the layer, as a share of the decoder's depth")

    def trainable_layers(self, layers: int) -> int:
        """The layers up to the one whose states the loss reads."""
        return max(1, round(self.depth * layers))
