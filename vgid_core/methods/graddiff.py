"""Gradient difference (Liu et al., arXiv 2203.12817): ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from typing import Literal

from vgid_core.lessons import Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import joint, rehearsed, unlearned


class GradientDifference(Method):
    """-alpha * L_f + lambda * L_r, both cross-entropies on answer tokens."""

    title = "gradient difference (arXiv 2203.12817) on answer tokens"

    name: Literal["graddiff"] = "graddiff"

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        return lambda forget, retain: joint(run, unlearned(run, forget), rehearsed(run, retain))
