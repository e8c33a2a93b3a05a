"""People who don't exist, made of the retain set's: what the base says of them is to stay as it is."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING

from vgid_core.batches import draw_batches
from vgid_core.data import DataError, EncodedImage, Pair
from vgid_core.methods.terms import keep
from vgid_core.teaching import aliases_for, photos_of_nobody

if TYPE_CHECKING:
    from vgid_core.methods.base import Run
    from vgid_core.methods.vgid_alias import VgidAlias

MOST = 64  # different pairs, each of which costs a pass of the base
_OTHER_SEEDS = 2**31  # a run's own are below
_LONGEST_SIDE = 1024  # pixels, of photos of which dozens are held in memory


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
        shuffled = next(draw_batches(self._run.retain, len(self._run.retain), random.Random(self._run.seed)))
        most = min(MOST, self._count * self._run.steps)
        return list(islice(_about_nobody(method, self._run, shuffled), most))


def _about_nobody(method: VgidAlias, run: Run, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The same with photos of nobody, one an image, and whole aliases of the answers, where these have one."""
    # Draws of its own: what the forgotten's teachers hear mustn't depend on how many are made up.
    seed = run.seed + _OTHER_SEEDS
    aliases, blends = aliases_for(method, run, seed), photos_of_nobody(method, run, seed)
    photos: dict[str, EncodedImage] = {}
    for pair in pairs:
        answer = run.path.answer_ids(pair.answer)
        alias = list(aliases.draw_whole(answer))
        [text] = run.base.encoder.decode([alias])
        if alias == answer or not _can_be_said(run, text):
            continue
        if pair.image.digest not in photos:
            photos[pair.image.digest] = EncodedImage.of(blends.draw(_bounded(pair.image.size)))
        yield Pair(photos[pair.image.digest], pair.question, text)


def _can_be_said(run: Run, text: str) -> bool:
    """Whether tokens put together make a text: parts of characters, or of control tokens, may come together."""
    try:
        run.path.answer_ids(text)
    except DataError:
        return False
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text


def _bounded(size: tuple[int, int]) -> tuple[int, int]:
    """The same shape, at most _LONGEST_SIDE long."""
    scale = min(1.0, _LONGEST_SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height
