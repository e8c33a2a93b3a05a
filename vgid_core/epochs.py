"""Training by epochs, as a data loader has them: batches in passes, and a learning rate that moves once a pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from vgid_core.config import TrainingConfig
from vgid_core.data import Pair, PairSet


def draw_epochs(items: PairSet, size: int, rng: random.Random, steps: int) -> Iterator[list[Pair]]:
    """Endless batches of an epoch after another, `steps` in each: pairs shuffled one by one, anew for each epoch.

    The last batch of the set may hold fewer than `size`; a set with more batches than `steps` leaves pairs out.
    """
    while True:
        order = rng.sample(items.pairs, len(items))
        for start in range(0, steps * size, size):
            yield order[start : start + size]


def decay_by_epoch(training: TrainingConfig, forget_pairs: int, retain_pairs: int) -> Callable[[int], float]:
    """Learning-rate factor of a 0-based step: linear to zero over all batches of both sets and all epochs, in theory.

    It moves once an epoch, though, as in VGID's public code: by as many of those batches as epochs went by.
    """
    batches = -(-forget_pairs // training.forget_batch_size) + -(-retain_pairs // training.retain_batch_size)
    planned = batches * (training.epochs or 1)
    steps = training.steps_per_epoch(forget_pairs, retain_pairs)

    def factor(step: int) -> float:
        up = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
        return min(1.0, up) * max(0, planned - step // steps) / planned

    return factor
