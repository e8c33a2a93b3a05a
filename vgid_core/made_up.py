"""People who don't exist, made of the retain set's: what the base says of them is to stay as it is."""

from __future__ import annotations

import random
from itertools import cycle, islice
from typing import TYPE_CHECKING

from vgid_core.batches import draw_batches
from vgid_core.data import Pair
from vgid_core.methods.terms import keep
from vgid_core.teaching import AliasTeacher

if TYPE_CHECKING:
    from vgid_core.methods.base import Run
    from vgid_core.methods.vgid_alias import VgidAlias

MOST = 64  # different pairs, each of which costs a pass of the base
_OTHER_SEEDS = 2**31  # a run's own are below


class MadeUp:
    """A method's pairs about people who don't exist: questions of the retain set, over and over.

    A student who learns to be unsure of some people becomes unsure of strangers, too; then those whom it was to forget
    can be told by what it says of others whom it never met.
    """

    def __init__(self, method: VgidAlias, run: Run) -> None:
        self._run = run
        self._count = method.made_up_pairs if run.training.retain_weight > 0 else 0
        self._pairs = self._made(method) if self._count else []
        self._endless = cycle(self._pairs)
        self._kept = False

    def next(self) -> list[Pair]:
        """Those of the next step: none where no answer of the retain set tells of anybody."""
        if not self._kept:
            keep(self._run, self._pairs)
            self._kept = True
        return list(islice(self._endless, self._count))

    def _made(self, method: VgidAlias) -> list[Pair]:
        run = self._run
        # Draws of its own: what the forgotten's teachers hear mustn't depend on how many are made up.
        teacher = AliasTeacher(method, run, run.seed + _OTHER_SEEDS)
        shuffled = next(draw_batches(run.retain, len(run.retain), random.Random(run.seed)))
        return list(islice(teacher.about_nobody(shuffled), min(MOST, self._count * run.training.steps)))
