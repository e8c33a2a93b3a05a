"""The order in which a run goes through a set: batches by image."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vgid_core.data.pairs import Pair, PairSet


def draw_batches(items: PairSet, size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Endless batches of `size` pairs: passes over the set, each pair once a pass.

    Images are shuffled, and the questions of each, but an image's questions stay together: they share a prefix.
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
