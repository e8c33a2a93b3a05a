"""Gradient ascent (Jang et al., arXiv 2210.01504): away from the answers, with nothing to hold the rest."""

from __future__ import annotations

from typing import Literal

from vgid_core.lessons import Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import unlearned


class GradientAscent(Method):
    """-alpha * L_f. It has no retain term, so the retain set and its weight make no difference."""

    title = "gradient ascent (arXiv 2210.01504) on answer tokens"

    name: Literal["ga"] = "ga"

    def begin(self, run: Run) -> Updates:
        """One update a step, on the forget batch alone."""
        return lambda forget, _retain: [[unlearned(run, forget)]]
