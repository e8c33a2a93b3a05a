"""Pairs of a method's own making, which go with each retain batch: what the base says to them is to stay."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from vgid_core.data.examples import same_for_both
from vgid_core.data.pairs import DataError, Pair
from vgid_core.methods.terms import precompute

if TYPE_CHECKING:
    from vgid_core.methods.base import MethodContext

MOST = 64  # different pairs, each of which costs a pass of the base


class KeptBeside:
    """So many of `pairs` a step, over and over."""

    def __init__(self, run: MethodContext, pairs: Sequence[Pair], count: int) -> None:
        self._run = run
        self._pairs = pairs
        self._count = count
        self._endless = cycle(pairs)
        self._kept = False

    def next(self) -> list[Pair]:
        """Those of the next step: none where there are none at all."""
        if not self._kept:
            precompute(self._run, same_for_both(self._pairs))
            self._kept = True
        return list(islice(self._endless, self._count))


def most_of(run: MethodContext, count: int) -> int:
    """How many different pairs a run makes use of, that takes so many a step."""
    return min(MOST, count * run.steps) if run.training.retain_weight > 0 else 0


def can_be_said(run: MethodContext, text: str) -> bool:
    """Whether tokens put together make a text: parts of characters, or of control tokens, may come together."""
    try:
        run.scorer.answer_ids(text)
    except DataError:
        return False
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text
