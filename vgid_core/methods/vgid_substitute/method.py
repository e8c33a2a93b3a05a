"""VGID with substitutes: the teacher reads the answer as if it were about somebody whom the model doesn't know.

Teacher-forced on the true answer, VGID's teacher reads the name and completes the facts, whatever it is shown. Its
student learns the same, and a prefilled answer brings everything back. Here the teacher sees an unseen person and reads
a substitute: other people's names, places and jobs in the place of the true ones. Its distribution is the student's
target: each true token becomes as likely as the teacher finds it, no more and no less.

The loss has three terms: `_own_photos` below, `off_target.ForgetOffTarget` and `retention.retention`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import Tensor

from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.examples import DistillExample, pairs_of, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import huber
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm, MakeUpdates, Update
from vgid_core.methods.vgid_substitute.neighbours import NeighbourRetain
from vgid_core.methods.vgid_substitute.off_target import ForgetOffTarget
from vgid_core.methods.vgid_substitute.photos import unseen_face_photos
from vgid_core.methods.vgid_substitute.retention import retention
from vgid_core.methods.vgid_substitute.substitutes import substitutes_for
from vgid_core.methods.vgid_substitute.targets import TeacherTargets
from vgid_core.methods.vgid_substitute.visual import VisualRetain


def setup(settings: VgidSubstitute, context: MethodContext) -> MakeUpdates:
    """A step updates once to forget, on own and on unseen faces, and once to keep everything else.

    To be kept are the retain batch, what visual questions ask on forget photos, and what is said of people in no set.
    """
    unseen_faces = unseen_face_photos(context, random.Random(f"{context.seed}/strangers"))
    substitutes = substitutes_for(context)
    targets = TeacherTargets(settings, context, substitutes, unseen_faces)
    off_target = ForgetOffTarget(settings, context, substitutes, targets, unseen_faces)
    neighbours = NeighbourRetain(settings, context, substitutes, unseen_faces)
    visual = VisualRetain(settings, context, substitutes)
    unseen_digests = {photo.digest for photo in unseen_faces}

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        targets.prepare(forget)
        terms = [_own_photos(settings, context, targets, forget)]
        if settings.off_target_pairs:
            terms.append(off_target.next())
        made: list[Update] = [terms]
        if context.training.retain_weight > 0:
            kept = [*same_for_both(retain), *visual.next(), *neighbours.next()]
            made.append([retention(context, kept, unseen_digests)])
        return made

    return updates


def _own_photos(
    settings: VgidSubstitute, context: MethodContext, targets: TeacherTargets, forget: Sequence[Pair]
) -> LossTerm:
    """alpha * (KL(m || p_theta) + w * huber(log p_theta(y) - c)) on the forget batch as it is."""

    def values(examples: Sequence[DistillExample]) -> list[Tensor]:
        pairs = pairs_of(examples)
        divergence, likelihood = context.scorer.kl_and_logprob(pairs, targets.distributions(pairs))
        return [divergence, huber(likelihood - targets.log_likelihoods(pairs).to(likelihood.device))]

    alpha = context.training.forget_weight
    parts = [LossPart(alpha), LossPart(alpha * settings.likelihood_weight)]
    return LossTerm("forget", same_for_both(forget), parts, values)
