"""What reading a source gives: pairs, what is wrong with others, and how many items were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vgid_core.data.pairs import DataError, Pair, PairSet


@dataclass(frozen=True)
class LeftOut:
    """`count` items that aren't image-text pairs of the set. `reason` names them, without what they say."""

    reason: str
    count: int = 1


# What a reader yields. An error's field is seen from its item: ".image", or "" for the whole of it.
Item = Pair | DataError | LeftOut


@dataclass(frozen=True)
class Reading:
    """A source, item by item: the pair or what is wrong with it. An item's index is its index in the set.

    `tail_mass` counts the items that were left out, by reason.
    """

    name: str
    items: tuple[Pair | DataError, ...] = field(repr=False)
    tail_mass: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, found: Iterable[Item]) -> Reading:
        """Collects what a reader yields; errors get their place in the set called `name`."""
        items: list[Pair | DataError] = []
        tail_mass: Counter[str] = Counter()
        for item in found:
            if isinstance(item, LeftOut):
                tail_mass[item.reason] += item.count
            elif isinstance(item, DataError):
                items.append(placed(item, f"{name}[{len(items)}]"))
            else:
                items.append(item)
        return cls(name, tuple(items), dict(tail_mass))

    def pair_set(self) -> PairSet:
        """The set. Raises the first DataError, and one for an empty set, question or answer."""
        pairs: list[Pair] = []
        for item in self.items:
            if isinstance(item, DataError):
                raise item
            pairs.append(item)
        return PairSet.of(self.name, pairs)


def placed(error: DataError, place: str) -> DataError:
    """`error`, whose field is seen from `place`, as it is seen from outside."""
    return DataError(error.reason, f"{place}{error.field}")
