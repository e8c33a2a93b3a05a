"""The result of reading a source: pairs, errors by item, and counts of items left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vgid_core.data.pairs import DataError, Pair, PairSet


@dataclass(frozen=True)
class LeftOut:
    """Items of a source that aren't pairs of the set. reason: what they are, without their content."""

    reason: str
    count: int = 1


# What a reader yields. An error's field is relative to the item: ".image", or "" for the whole item.
Item = Pair | DataError | LeftOut


@dataclass(frozen=True)
class ReadResult:
    """The items of a source in their order, each a pair or its error.

    items: indices are those of the set. left_out: counts of other items, by reason.
    """

    name: str
    items: tuple[Pair | DataError, ...] = field(repr=False)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, found: Iterable[Item]) -> ReadResult:
        """Collects what a reader yields. Errors get their place in the set, such as 'forget[3].image'."""
        items: list[Pair | DataError] = []
        left_out: Counter[str] = Counter()
        for item in found:
            if isinstance(item, LeftOut):
                left_out[item.reason] += item.count
            elif isinstance(item, DataError):
                items.append(prefixed(item, f"{name}[{len(items)}]"))
            else:
                items.append(item)
        return cls(name, tuple(items), dict(left_out))

    def pair_set(self) -> PairSet:
        """The set of all pairs. Raises the first item's DataError, and one for an empty set, question or answer."""
        pairs: list[Pair] = []
        for item in self.items:
            if isinstance(item, DataError):
                raise item
            pairs.append(item)
        return PairSet.of(self.name, pairs)


def prefixed(error: DataError, place: str) -> DataError:
    """The error with `place` before its relative field."""
    return DataError(error.reason, f"{place}{error.field}")
