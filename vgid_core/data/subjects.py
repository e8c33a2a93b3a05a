"""People, by the photos and the names that stand for them in sets of pairs; and pairs about nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from vgid_core.data.pairs import DataError, EncodedImage, Pair, PairSet
from vgid_core.data.text_normalization import normalized

_QUESTION = "What is shown here?"
_ANSWER = "I can't tell."


@dataclass(frozen=True)
class Subjects:
    """Some people. photos: digests of their photos. names: their names, normalized."""

    photos: frozenset[str] = field(default=frozenset(), repr=False)
    names: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, pairs: Iterable[Pair], names: Collection[str] | None = None) -> Self:
        """Whoever the pairs show or name. names: normalized; if given, no other name counts."""
        shown = list(pairs)
        named = {normalized(pair.person) for pair in shown if pair.person is not None}
        counted = named if names is None else named.intersection(names)
        return cls(frozenset(pair.image.digest for pair in shown), frozenset(counted))

    def are_in(self, pair: Pair) -> bool:
        """Whether the pair shows or names one of them."""
        named = pair.person is not None and bool(self.names) and normalized(pair.person) in self.names
        return named or pair.image.digest in self.photos

    def taken_from(self, items: PairSet) -> PairSet:
        """The set without the pairs about them. Raises DataError if none is left."""
        left = tuple(pair for pair in items if not self.are_in(pair))
        if not left:
            by_photo = all(pair.image.digest in self.photos for pair in items)
            what = "shows only images that" if by_photo else "is only about people who"
            raise DataError(f"{what} are to be forgotten", items.name)
        return PairSet(items.name, left)

    def __or__(self, other: Subjects) -> Subjects:
        return Subjects(self.photos | other.photos, self.names | other.names)


def about_nobody(items: PairSet) -> PairSet:
    """As many pairs as `items`, each with noise in place of its photo, and a question about nothing else.

    Each photo's noise has its size, so that a run takes as long with these.
    """
    photos = list(dict.fromkeys(pair.image for pair in items))
    noise = {photo: _noise(photo.size, number) for number, photo in enumerate(photos)}
    return PairSet(items.name, tuple(Pair(noise[pair.image], _QUESTION, _ANSWER) for pair in items))


def _noise(size: tuple[int, int], seed: int) -> EncodedImage:
    """A picture of random colours."""
    from PIL import Image

    width, height = size
    colours = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return EncodedImage.of(Image.fromarray(colours))
