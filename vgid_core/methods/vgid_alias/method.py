"""VGID with aliases (to be replaced)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.methods import VgidAlias
from vgid_core.data.examples import DistillExample, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import huber
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm, MakeUpdates, Update
from vgid_core.methods.terms import pairs_of, retain_kl
from vgid_core.methods.vgid_alias.kept_beside import KeptBeside
from vgid_core.methods.vgid_alias.made_up import made_up_pairs
from vgid_core.methods.vgid_alias.strangers import Strangers
from vgid_core.methods.vgid_alias.visible import visible_pairs


def setup(settings: VgidAlias, context: MethodContext) -> MakeUpdates:
    """An update on what teachers say to the forget batch, then one that keeps the retain batch and pairs beside."""
    strangers = Strangers(settings, context)
    made_up = KeptBeside(context, made_up_pairs(settings, context), settings.made_up_pairs)
    visible = KeptBeside(context, visible_pairs(settings, context), settings.visible_pairs)

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        strangers.meet(forget)
        made: list[Update] = [[_imitated(settings, context, forget, strangers)]]
        if context.training.retain_weight > 0:
            made.append([retain_kl(context, same_for_both([*retain, *made_up.next(), *visible.next()]))])
        return made

    return updates


def _imitated(settings: VgidAlias, context: MethodContext, forget: Sequence[Pair], strangers: Strangers) -> LossTerm:
    def values(some: Sequence[DistillExample]) -> list[Tensor]:
        pairs = pairs_of(some)
        divergence, likelihood = context.scorer.kl_and_logprob(pairs, strangers.targets(pairs))
        return [divergence, huber(likelihood - strangers.levels(pairs).to(likelihood.device))]

    alpha = context.training.forget_weight
    parts = [LossPart(alpha), LossPart(alpha * settings.likelihood_weight)]
    return LossTerm("forget", same_for_both(forget), parts, values)
