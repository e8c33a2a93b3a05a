"""Loss terms that several methods share. Weights are the roles': alpha for forget, beta or lambda for retain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm, Update


def forget_ascent(context: MethodContext, forget: Sequence[Pair]) -> LossTerm:
    """-alpha * L_f: the cross-entropy of the forget batch's answer tokens, to be increased."""

    def values(some: Sequence[DistillExample]) -> Tensor:
        return context.scorer.student_log_probability(pairs_of(some))

    return LossTerm.of("forget", same_for_both(forget), context.training.forget_weight, values)


def forget_nll(context: MethodContext, forget: Sequence[Pair]) -> LossTerm:
    """alpha * L: the cross-entropy of answers that stand in the place of the forget batch's own."""
    return LossTerm.of(
        "forget", same_for_both(forget), context.training.forget_weight, negative_log_likelihood(context)
    )


def retain_nll(context: MethodContext, retain: Sequence[Pair]) -> LossTerm:
    """beta * L_r: the cross-entropy of the retain batch's answer tokens."""
    return LossTerm.of(
        "retain", same_for_both(retain), context.training.retain_weight, negative_log_likelihood(context)
    )


def retain_kl(context: MethodContext, examples: Sequence[DistillExample]) -> LossTerm:
    """beta * KL(p_base || p_theta) on a retain batch and what else is to be kept with it."""
    prefetch_retain(context)
    return LossTerm.of("retain", examples, context.training.retain_weight, context.scorer.divergence)


def prefetch_retain(context: MethodContext) -> None:
    """Has the scorer compute the base's outputs on the retain pairs of the next steps, once."""
    precompute(context, same_for_both(context.prefetch))
    context.prefetch.clear()


def precompute(context: MethodContext, examples: Sequence[DistillExample]) -> None:
    """Has the scorer compute the base's outputs on these, as many together as memory is meant for."""
    at_once = context.training.teacher_batch_size
    for start in range(0, len(examples), at_once):
        context.scorer.precompute(examples[start : start + at_once])


def joint(context: MethodContext, forget: LossTerm, retain: LossTerm) -> list[Update]:
    """One update on the sum of both; without the retain term where its weight is zero."""
    return [[forget, retain] if context.training.retain_weight > 0 else [forget]]


def negative_log_likelihood(context: MethodContext) -> Callable[[Sequence[DistillExample]], Tensor]:
    """-log p_theta at every answer token of some examples."""
    return lambda some: -context.scorer.student_log_probability(pairs_of(some))
