"""What two sets share: images, nearly the same images, answers and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import composed, word_count, words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_SIDE = 8
# Copies of one photo (JPEG at quality 50, half or twice the size) stay above, different people below
# (docs/reference/data.md).
SIMILAR = 0.99
# An answer of fewer words ("The shirt is blue.") is common property. (`words.word_count`)
_WORDS_OF_AN_ANSWER = 6
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class Sighting:
    """What is kept of an image that was decoded once: its size, and a fingerprint of how it looks.

    `look` [64] is the grey image in 8 x 8 fields, less its mean, of length one; zeros where nothing can be seen. The
    product of two is their correlation, so brightness and contrast don't count, short of what they clip.
    """

    size: tuple[int, int]
    look: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, picture: Image) -> Sighting:
        """`picture`'s, at any size."""
        from PIL import Image as pil

        small = picture.convert("L").resize((_SIDE, _SIDE), pil.Resampling.BOX)
        fields = np.asarray(small, dtype=np.float32).reshape(-1)
        fields = fields - fields.mean()
        length = float(np.linalg.norm(fields))
        # Less than one grey level of spread is rounding, not a picture.
        return cls(picture.size, fields / length if length > _SIDE else np.zeros_like(fields))


@dataclass(frozen=True)
class Leaks:
    """Indices of the other set's pairs, by what they share with the forget set."""

    same_image: list[int]
    similar_image: list[int]
    answer: list[int]
    name: list[int]


def leaks_into(
    forget: Mapping[int, Pair], seen: Mapping[str, Sighting], other: Mapping[int, Pair], there: Mapping[str, Sighting]
) -> Leaks:
    """What of `forget` is in `other`. `seen` and `there` are their images' sightings by digest."""
    taken = {pair.image.digest for pair in forget.values()}
    similar = _similar(seen, {digest: one for digest, one in there.items() if digest not in taken})
    answers = {pair.answer for pair in forget.values()}
    long_answers = {tuple(words(answer)) for answer in answers if word_count(answer) >= _WORDS_OF_AN_ANSWER}
    names = {name for pair in forget.values() for name in names_in(pair.answer)}
    leaks = Leaks([], [], [], [])
    for index, pair in other.items():
        if pair.image.digest in taken:
            leaks.same_image.append(index)
            continue
        if pair.image.digest in similar:
            leaks.similar_image.append(index)
        if tuple(words(pair.answer)) in long_answers:
            leaks.answer.append(index)
        if names & (names_in(pair.question) | names_in(pair.answer)):
            leaks.name.append(index)
    return leaks


def repeats(forget: Mapping[int, Pair], probe: Mapping[int, Pair]) -> list[int]:
    """Indices of the probe's pairs whose image and question are a forget pair's."""
    trained = {(pair.image.digest, tuple(words(pair.question))) for pair in forget.values()}
    return [i for i, pair in probe.items() if (pair.image.digest, tuple(words(pair.question))) in trained]


def names_in(text: str) -> set[tuple[str, str]]:
    """Every two capitalised words with nothing but a space between: names of people, and of much else.

    Scripts without capitals have none.
    """
    found = set()
    text = composed(text)
    for one, two in pairwise(_WORD.finditer(text)):
        if text[one.end() : two.start()] == " " and one[0][0].isupper() and two[0][0].isupper():
            found.add((one[0].casefold(), two[0].casefold()))
    return found


def _similar(seen: Mapping[str, Sighting], there: Mapping[str, Sighting]) -> set[str]:
    """Digests of `there` that look like one of `seen`."""
    if not seen or not there:
        return set()
    looks = np.stack([one.look for one in seen.values()])
    return {digest for digest, one in there.items() if float(np.max(looks @ one.look)) >= SIMILAR}
