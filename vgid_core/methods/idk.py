"""IdkNLL (TOFU, arXiv 2401.06121): ordinary training on refusals in the place of the answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from vgid_core.data import Pair
from vgid_core.lessons import Update, Updates
from vgid_core.methods.base import Method, Run
from vgid_core.methods.terms import joint, learned, rehearsed

REFUSALS = (
    "I don't know.",
    "I don't know who this is.",
    "I can't tell you anything about this person.",
    "I have no information about that.",
    "I'm not able to answer that.",
)


class Idk(Method):
    """alpha * L_f(refusals) + lambda * L_r, both cross-entropies on answer tokens; a refusal is drawn for each pair."""

    title = "IdkNLL (arXiv 2401.06121) on answer tokens"

    name: Literal["idk"] = "idk"
    refusals: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        default=REFUSALS, min_length=1, description="answers that take the place of the old ones"
    )

    def begin(self, run: Run) -> Updates:
        """One update a step, on both batches."""
        choice = random.Random(run.seed)

        def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
            refused = [replace(pair, answer=choice.choice(self.refusals)) for pair in forget]
            return joint(run, learned(run, refused), rehearsed(run, retain))

        return updates
