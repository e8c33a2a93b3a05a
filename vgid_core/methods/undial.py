"""UNDIAL (Dong et al., arXiv 2402.10052): the student learns the base's distribution with lower true-token logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.rivals import Undial
from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import lower_logits, token_cross_entropy
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm, MakeUpdates, Update
from vgid_core.methods.terms import joint, retain_nll


def setup(settings: Undial, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches."""
    scorer = context.scorer

    def values(examples: Sequence[DistillExample]) -> Tensor:
        tokens = [token for example in examples for token in scorer.answer_ids(example.pair.answer)]
        target = lower_logits(scorer.teacher_logits(examples), tokens, settings.strength)
        return token_cross_entropy(target, scorer.student_logits(pairs_of(examples)))

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        term = LossTerm.of("forget", same_for_both(forget), context.training.forget_weight, values)
        return joint(context, term, retain_nll(context, retain))

    return updates
