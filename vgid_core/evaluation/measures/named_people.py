"""Who is named: the known people of some sets, and whom of them a text names. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vgid_core.data.leaks import names_in
from vgid_core.data.pairs import PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.data.text_normalization import words

Name = tuple[str, ...]  # its normalized words


@dataclass(frozen=True)
class KnownNames:
    """Names of people, which texts are searched for."""

    names: frozenset[Name] = field(repr=False)

    @classmethod
    def of_others(cls, sets: AuditSets) -> KnownNames:
        """Those of the people whom a registered or retained pair names.

        They are the labels of a set's pairs. A set whose answers hold none of its labels, or that has none, names
        people by its answers. The utility set does by its labels alone: its answers name much that is nobody.
        """
        about_people = [items for items in (sets.retain, sets.registered_retain, sets.neighbours) if items is not None]
        found = {name for items in about_people for name in _labels(items) or _in_answers(items)}
        return cls(frozenset(found | (set() if sets.utility is None else _labels(sets.utility))))

    def __len__(self) -> int:
        return len(self.names)

    def in_texts(self, texts: Iterable[str]) -> set[Name]:
        """The names that stand in one of the texts, whole and normalized."""
        lengths = {len(name) for name in self.names}
        return {part for text in texts for part in _parts(words(text), lengths) if part in self.names}


def _labels(items: PairSet) -> set[Name]:
    """The labels of the set's pairs, unless none stands in its pair's answer: then they are numbers, or the like."""
    labels = {pair.person for pair in items if pair.person is not None}
    names = KnownNames(frozenset(filter(None, (tuple(words(label)) for label in labels))))
    given = any(names.in_texts([pair.answer]) & names.in_texts([pair.person]) for pair in items if pair.person)
    return set(names.names) if given else set()


def _in_answers(items: PairSet) -> set[Name]:
    return {tuple(words(" ".join(name))) for pair in items for name in names_in(pair.answer)}


def _parts(text: list[str], lengths: set[int]) -> Iterable[Name]:
    for length in lengths:
        for start in range(len(text) - length + 1):
            yield tuple(text[start : start + length])
