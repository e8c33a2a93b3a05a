"""Gradient ascent (Jang et al., arXiv 2210.01504) on the forget set, without a retain term."""

from __future__ import annotations

from vgid_core.config.rivals import GradientAscent
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.methods.terms import forget_ascent


def setup(_settings: GradientAscent, context: MethodContext) -> MakeUpdates:
    """One update a step, on the forget batch alone."""
    return lambda forget, _: [[forget_ascent(context, forget)]]
