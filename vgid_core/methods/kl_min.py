"""KL minimisation (TOFU, arXiv 2401.06121): ascent on the forget set, the base's predictions kept on the retain set."""

from __future__ import annotations

from typing import Literal

from vgid_core.lessons import Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import joint, kept, unlearned


class KlMin(Method):
    """-alpha * L_f + beta * KL_r(p_base || p_theta), on answer tokens."""

    title = "KL minimisation (arXiv 2401.06121) on answer tokens"

    name: Literal["kl-min"] = "kl-min"

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        return lambda forget, retain: joint(run, unlearned(run, forget), kept(run, retain))
