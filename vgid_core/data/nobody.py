"""Pairs about nobody: what a run retains where everything that it was given to retain is about the forgotten."""

from __future__ import annotations

import numpy as np

from vgid_core.data.pairs import EncodedImage, Pair, PairSet

_QUESTION = "What is shown here?"
_ANSWER = "I can't tell."


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
