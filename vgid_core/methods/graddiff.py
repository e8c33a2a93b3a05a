"""Gradient difference (Liu et al., arXiv 2203.12817): ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from vgid_core.config.rivals import GradientDifference
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.methods.terms import forget_ascent, joint, retain_nll


def setup(_settings: GradientDifference, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches."""
    return lambda forget, retain: joint(context, forget_ascent(context, forget), retain_nll(context, retain))
