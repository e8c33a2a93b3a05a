"""VGID with aliases: the teacher reads the answer as if it were about somebody whom the model doesn't know.

Teacher-forced on the true answer, VGID's teacher reads the name and completes the facts, whatever it is shown. That is
what its student learns, and a begun answer brings everything back. Here the teacher sees a stranger and reads an alias:
other people's names, places and jobs in the place of the true ones. What it finds likely is the target, and the true
tokens are to become as likely as it finds them, no more and no less.

The loss has three terms: `_own_photos` below, `elsewhere.ForgetElsewhere` and `retention.retention`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.methods import VgidAlias
from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import huber
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm, MakeUpdates, Update
from vgid_core.methods.vgid_alias.aliases import aliases_for
from vgid_core.methods.vgid_alias.bystanders import BystanderRetain
from vgid_core.methods.vgid_alias.elsewhere import ForgetElsewhere
from vgid_core.methods.vgid_alias.photos import stranger_photos
from vgid_core.methods.vgid_alias.retention import retention
from vgid_core.methods.vgid_alias.targets import TeacherTargets
from vgid_core.methods.vgid_alias.visual import VisualRetain


def setup(settings: VgidAlias, context: MethodContext) -> MakeUpdates:
    """A step updates once to forget, on own and on strangers' photos, and once to keep everything else.

    To be kept are the retain batch, what visual questions ask on forget photos, and what is said of people in no set.
    """
    strangers = stranger_photos(context, random.Random(f"{context.seed}/strangers"))
    aliases = aliases_for(context)
    targets = TeacherTargets(settings, context, aliases, strangers)
    elsewhere = ForgetElsewhere(settings, context, aliases, targets, strangers)
    bystanders = BystanderRetain(settings, context, aliases, strangers)
    visual = VisualRetain(settings, context, aliases)
    stranger_digests = {photo.digest for photo in strangers}

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        targets.prepare(forget)
        terms = [_own_photos(settings, context, targets, forget)]
        if settings.elsewhere_pairs:
            terms.append(elsewhere.next())
        made: list[Update] = [terms]
        if context.training.retain_weight > 0:
            kept = [*same_for_both(retain), *visual.next(), *bystanders.next()]
            made.append([retention(context, kept, stranger_digests)])
        return made

    return updates


def _own_photos(
    settings: VgidAlias, context: MethodContext, targets: TeacherTargets, forget: Sequence[Pair]
) -> LossTerm:
    """alpha * (KL(m || p_theta) + w * huber(log p_theta(y) - c)) on the forget batch as it is."""

    def values(examples: Sequence[DistillExample]) -> list[Tensor]:
        pairs = pairs_of(examples)
        divergence, likelihood = context.scorer.kl_and_logprob(pairs, targets.distributions(pairs))
        return [divergence, huber(likelihood - targets.log_likelihoods(pairs).to(likelihood.device))]

    alpha = context.training.forget_weight
    parts = [LossPart(alpha), LossPart(alpha * settings.likelihood_weight)]
    return LossTerm("forget", same_for_both(forget), parts, values)
