"""Leaks between two sets: identical images, near-duplicate images, answers and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.data.text_normalization import nfkc, word_count, words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_SIDE = 8  # of a fingerprint, in fields
_ENOUGH = 8 * _SIDE  # pixels of a picture's shorter side that tell its fingerprint
# Correlation of two fingerprints. Copies of one photo (JPEG at quality 50, half or twice the size) lie above it, photos
# of different people below (docs/reference/data.md).
SIMILAR = 0.99
# Shorter answers, such as "The shirt is blue.", are shared by chance. Counted by `word_count`.
_MIN_ANSWER_WORDS = 6
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class ImageFingerprint:
    """Size in pixels and a perceptual fingerprint of a decoded image.

    vector: [64], float32: the grey image scaled to 8 x 8 fields, less its mean, normalised to length one. All zeros for
    an image of one colour. The dot product of two vectors is their correlation, which ignores brightness and contrast
    except where these clip.
    """

    size: tuple[int, int]
    vector: NDArray[np.float32] = field(repr=False)

    @classmethod
    def read(cls, image: EncodedImage) -> ImageFingerprint:
        """The fingerprint of an image, which is decoded as far as that takes. Raises DataError if it can't be."""
        return replace(cls.of(image.decode_reduced(_ENOUGH)), size=image.size)

    @classmethod
    def of(cls, picture: Image) -> ImageFingerprint:
        """The fingerprint of a decoded picture of any size."""
        from PIL import Image as pil

        small = picture.convert("L").resize((_SIDE, _SIDE), pil.Resampling.BOX)
        fields = np.asarray(small, dtype=np.float32).reshape(-1)
        fields = fields - fields.mean()
        length = float(np.linalg.norm(fields))
        # A spread of less than one grey level is rounding.
        return cls(picture.size, fields / length if length > _SIDE else np.zeros_like(fields))


@dataclass(frozen=True)
class Leaks:
    """Indices of pairs of another set, by what they share with the forget set."""

    same_image: list[int]
    similar_image: list[int]
    answer: list[int]
    name: list[int]


def find_leaks(
    forget: Mapping[int, Pair],
    forget_prints: Mapping[str, ImageFingerprint],
    other: Mapping[int, Pair],
    other_prints: Mapping[str, ImageFingerprint],
) -> Leaks:
    """Finds what the set `other` shares with the set `forget`.

    Both sets map index to pair. Their fingerprints map image digest to fingerprint.
    """
    taken = {pair.image.digest for pair in forget.values()}
    similar = _similar(forget_prints, {digest: one for digest, one in other_prints.items() if digest not in taken})
    answers = {pair.answer for pair in forget.values()}
    long_answers = {tuple(words(answer)) for answer in answers if word_count(answer) >= _MIN_ANSWER_WORDS}
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


def repeated_questions(forget: Mapping[int, Pair], probe: Mapping[int, Pair]) -> list[int]:
    """Indices of the probe's pairs whose image and question stand in the forget set, too."""
    trained = {(pair.image.digest, tuple(words(pair.question))) for pair in forget.values()}
    return [i for i, pair in probe.items() if (pair.image.digest, tuple(words(pair.question))) in trained]


def names_in(text: str) -> set[tuple[str, str]]:
    """Pairs of capitalised words with one space between them: names of people, and some other phrases.

    A script without capitals yields none.
    """
    found = set()
    text = nfkc(text)
    for one, two in pairwise(_WORD.finditer(text)):
        if text[one.end() : two.start()] == " " and one[0][0].isupper() and two[0][0].isupper():
            found.add((one[0].casefold(), two[0].casefold()))
    return found


def _similar(reference: Mapping[str, ImageFingerprint], candidates: Mapping[str, ImageFingerprint]) -> set[str]:
    """Digests of the candidates that are near-duplicates of a reference image."""
    if not reference or not candidates:
        return set()
    vectors = np.stack([one.vector for one in reference.values()])
    return {digest for digest, one in candidates.items() if float(np.max(vectors @ one.vector)) >= SIMILAR}
