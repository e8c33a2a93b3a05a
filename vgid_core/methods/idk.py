"""IdkNLL (TOFU, arXiv 2401.06121): fine-tuning on refusals in place of the answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from vgid_core.config.rivals import Idk
from vgid_core.data.pairs import Pair
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates, Update
from vgid_core.methods.terms import forget_nll, joint, retain_nll


def setup(settings: Idk, context: MethodContext) -> MakeUpdates:
    """One update a step, on both batches; a refusal is drawn for each forget pair."""
    rng = random.Random(context.seed)

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        refused = [replace(pair, answer=rng.choice(settings.refusals)) for pair in forget]
        return joint(context, forget_nll(context, refused), retain_nll(context, retain))

    return updates
