"""RMU (Li et al., arXiv 2403.03218): moves one layer's states on forget pairs to a random vector, keeps the others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.rivals import Rmu
from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import mean_square, random_direction
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm, MakeUpdates, Update
from vgid_core.methods.terms import joint


def setup(settings: Rmu, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches."""
    scorer, weights = context.scorer, context.training
    decoder = context.base.model.get_decoder()
    layer = settings.trainable_layers(len(decoder.layers)) - 1
    direction = random_direction(decoder.config.hidden_size, context.seed).to(context.base.device)
    target = settings.coefficient * direction

    def to_random_vector(examples: Sequence[DistillExample]) -> Tensor:
        return mean_square(scorer.student_states(pairs_of(examples), layer), target)

    def to_base_states(examples: Sequence[DistillExample]) -> Tensor:
        states = scorer.student_states(pairs_of(examples), layer)
        return mean_square(states, scorer.teacher_states(examples, layer))

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        return joint(
            context,
            LossTerm.of("forget", same_for_both(forget), weights.forget_weight, to_random_vector),
            LossTerm.of("retain", same_for_both(retain), weights.retain_weight, to_base_states),
        )

    return updates
