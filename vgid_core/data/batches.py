"""Batches of pairs, grouped by image."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vgid_core.data.pairs import Pair, PairSet


def draw_batches(items: PairSet, size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Yields batches of `size` pairs without end. Each epoch holds each pair once.

    Each epoch shuffles the images, and the questions of each image. Questions on one image stay together: packed rows
    compute their shared prefix once.
    """
    images: dict[str, list[Pair]] = {}
    for pair in items:
        images.setdefault(pair.image.digest, []).append(pair)
    queue: list[Pair] = []
    while True:
        while len(queue) < size:
            for pairs in rng.sample(list(images.values()), len(images)):
                queue += rng.sample(pairs, len(pairs))
        yield queue[:size]
        queue = queue[size:]
