"""Even samples of a sequence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


def even_sample(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items in their order: one from each of `limit` equal intervals, the same ones every time.

    The place within an interval is drawn. The first of each could fall in step with the set's layout: in a set of ten
    questions a person, every sampled question could be the same one.
    """
    count = len(items)
    if not 0 < limit < count:
        return list(items[:limit])
    rng = random.Random(0)
    intervals = pairwise(index * count // limit for index in range(limit + 1))
    return [items[rng.randrange(start, end)] for start, end in intervals]
