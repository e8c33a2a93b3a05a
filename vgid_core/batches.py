"""The order in which a run goes through a set: batches by image, or by epochs as a data loader has them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vgid_core.data import Pair, PairSet


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


def draw_epochs(items: PairSet, size: int, rng: random.Random, steps: int) -> Iterator[list[Pair]]:
    """Endless batches of an epoch after another, `steps` in each: pairs shuffled one by one, anew for each epoch.

    The last batch of the set may hold fewer than `size`; a set with more batches than `steps` leaves pairs out.
    """
    while True:
        order = rng.sample(items.pairs, len(items))
        for start in range(0, steps * size, size):
            yield order[start : start + size]
