"""Negative preference optimisation (Zhang et al., arXiv 2404.05868): gradient ascent that saturates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.rivals import Npo
from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import negative_preference, segment_sums
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm, MakeUpdates, Update
from vgid_core.methods.terms import joint, retain_nll


def setup(settings: Npo, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches."""
    scorer = context.scorer

    def values(examples: Sequence[DistillExample]) -> Tensor:
        lengths = [len(scorer.answer_ids(example.pair.answer)) for example in examples]
        student = scorer.student_log_probability(pairs_of(examples))
        reference = scorer.teacher_log_probability(examples)
        return negative_preference(segment_sums(student - reference, lengths), settings.inverse_temperature)

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        term = LossTerm.of("forget", same_for_both(forget), context.training.forget_weight, values, per="pair")
        return joint(context, term, retain_nll(context, retain))

    return updates
