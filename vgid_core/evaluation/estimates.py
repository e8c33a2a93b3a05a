"""Means and AUCs with 95 % intervals by the bootstrap over people: a person's pairs say nearly the same thing.

Doesn't import torch. Efron, 1979; percentile intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vgid_core.data.pairs import Pair

_DRAWS = 1000
_TAIL = 2.5  # per cent on either side
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Values:
    """What was found for some items, and to whom each belongs.

    people: a label for each item, which is never written down.
    """

    values: Sequence[float]
    people: Sequence[str] = field(repr=False)

    @classmethod
    def about(cls, pairs: Sequence[Pair], values: Sequence[float]) -> Values:
        """One value a pair. Without a name, a photo counts as a person."""
        return cls(values, [owner(pair) for pair in pairs])


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over so many people, or photos where pairs name no person, and items."""

    value: float
    low: float
    high: float
    people: int
    items: int


def owner(pair: Pair) -> str:
    """Whose pair it is: the person that it names, else its photo's digest."""
    return pair.person if pair.person is not None else pair.image.digest


def mean_of(found: Values, seed: int = 0) -> Estimate:
    """The mean over the items, each in [-1, 1], and its interval. Raises ValueError without items.

    In whatever order the items come.
    """
    sums, counts = _by_person(found)
    drawn = _weights(len(counts), seed)
    means = (drawn @ sums) / (drawn @ counts)
    value = float(sums.sum() / counts.sum())
    low, high = np.percentile(means, [_TAIL, 100 - _TAIL])
    if _agree(sums / counts):
        low, high = _when_all_agree(value, len(counts))
    return Estimate(value, min(float(low), value), max(float(high), value), len(counts), len(found.values))


def auc_of(members: Values, others: Values, seed: int = 0) -> Estimate:
    """The probability that a member's value is above another's, ties counting half; over people of both sides.

    people: of the members. Of one person on a side, no draw shows how much another would differ.
    """
    left, right = np.asarray(members.values, float)[:, None], np.asarray(others.values, float)[None]
    wins = (left > right) + 0.5 * (left == right)
    inside, outside = _membership(members.people), _membership(others.people)
    by_person = inside @ wins @ outside.T  # wins of one person's items over another's
    sizes = inside.sum(1)[:, None] * outside.sum(1)[None]
    rows, columns = _weights(len(inside), seed), _weights(len(outside), seed + 1)
    aucs = np.einsum("dp,pq,dq->d", rows, by_person, columns) / np.einsum("dp,pq,dq->d", rows, sizes, columns)
    value = float(wins.mean())
    low, high = np.percentile(aucs, [_TAIL, 100 - _TAIL])
    fewer = min(len(inside), len(outside))
    if fewer == 1 or _agree(by_person / sizes):
        low, high = _when_all_agree(value, fewer)
    return Estimate(value, min(float(low), value), max(float(high), value), len(inside), len(members.values))


def _by_person(found: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of each person's values: two of [people]."""
    if not found.values:
        raise ValueError("there are no values")
    owned = _membership(found.people)
    return owned @ np.asarray(found.values, float), owned.sum(1)


def _membership(people: Sequence[str]) -> NDArray[np.float64]:
    """1 where an item is the person's: [people, items]."""
    order = {name: index for index, name in enumerate(sorted(set(people)))}
    owned = np.zeros((len(order), len(people)))
    owned[[order[name] for name in people], np.arange(len(people))] = 1
    return owned


def _weights(people: int, seed: int) -> NDArray[np.float64]:
    """How often each draw takes each person: [draws, people]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(people, np.full(people, 1 / people), size=_DRAWS).astype(float)


def _agree(by_person: NDArray[np.float64]) -> bool:
    """Whether all people have the same value, as far as sums of other lengths can."""
    return float(np.ptp(by_person)) < _ROUNDING


def _when_all_agree(value: float, people: int) -> tuple[float, float]:
    """The bootstrap can't see beyond the people it has: where all agree, it would claim to be certain.

    For shares of 0 or 1, the interval of Clopper and Pearson (1934), 2.5 % in the tail. For others as wide a one.
    """
    width = 1 - (_TAIL / 100) ** (1 / people)
    return max(0.0 if value >= 0 else -1.0, value - width), min(1.0, value + width)
