"""Some of many, spread over all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


def spread_over(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of them in their order, one of each stretch of equal length, the same ones every time.

    Which one of a stretch, is drawn: with the first of each, sets that are laid out in groups (ten questions about one
    person, then about the next) could be asked the same question of everybody, and no other.
    """
    count = len(items)
    if not 0 < limit < count:
        return list(items[:limit])
    drawn = random.Random(0)
    stretches = pairwise(index * count // limit for index in range(limit + 1))
    return [items[drawn.randrange(start, end)] for start, end in stretches]
