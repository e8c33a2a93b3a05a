"""KL minimisation (TOFU, arXiv 2401.06121): ascent on the forget set, KL to the base on the retain set."""

from __future__ import annotations

from vgid_core.config.rivals import KlMin
from vgid_core.data.examples import same_for_both
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.methods.terms import forget_ascent, joint, retain_kl


def setup(_settings: KlMin, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches."""
    return lambda forget, retain: joint(
        context, forget_ascent(context, forget), retain_kl(context, same_for_both(retain))
    )
