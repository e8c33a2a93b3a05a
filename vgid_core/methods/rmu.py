"""RMU (Li et al., arXiv 2403.03218): one layer's states of forget items are led astray, those of retain items held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vgid_core.data import Pair
from vgid_core.lessons import Lesson, Term, Update, Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import joint, lessons_of, pairs_of

if TYPE_CHECKING:
    from torch import Tensor


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

    def reach(self, layers: int) -> int:
        """Up to the layer whose states are pulled."""
        return max(1, round(self.depth * layers))

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        from vgid_core.losses import mean_square, random_direction

        decoder = run.base.model.get_decoder()
        layer = self.reach(len(decoder.layers)) - 1
        target = self.coefficient * random_direction(decoder.config.hidden_size, run.seed).to(run.base.device)

        def astray(lessons: Sequence[Lesson]) -> Tensor:
            return mean_square(run.path.student_states(pairs_of(lessons), layer), target)

        def held(lessons: Sequence[Lesson]) -> Tensor:
            states = run.path.student_states(pairs_of(lessons), layer)
            return mean_square(states, run.path.teacher_states(lessons, layer))

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            weights = run.training
            return joint(
                run,
                Term.of("forget", lessons_of(forget), weights.forget_weight, astray),
                Term.of("retain", lessons_of(retain), weights.retain_weight, held),
            )

        return updates
