"""Answers under another name: what tells of somebody in particular is replaced, the sentence around it stays.

An answer's *telling* tokens are those that few answers of the retain set share: names, places, jobs. An alias puts
other people's telling tokens in their place, each drawn by itself, so that together they are about nobody.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

_START = -1  # stands before an answer's first token
_TRIES = 8

Place = tuple[int, int]


class Aliases:
    """Draws aliases of answers, in tokens, from those of a retain set.

    Where a telling token stands is told by the common token before it and by how many telling ones are between: what
    follows "works as a" is replaced by what followed it elsewhere.
    """

    def __init__(self, kept: Sequence[Sequence[int]], common_share: float, seed: int) -> None:
        """`kept`: token ids of the retain set's different answers.

        Common is what more than that share of them has, and more than one.
        """
        counts = Counter(token for answer in kept for token in set(answer))
        self._common = {token for token, count in counts.items() if count > max(1, common_share * len(kept))}
        self._seen: dict[Place, list[int]] = defaultdict(list)
        self._anywhere: list[int] = []
        for answer in kept:
            for index, place in self._telling(answer[:-1]):
                self._seen[place].append(answer[index])
                self._anywhere.append(answer[index])
        self._rng = random.Random(seed)

    @property
    def choice(self) -> int:
        """How many different tokens there are to put in a telling one's place."""
        return len(set(self._anywhere))

    def draw(self, answer: Sequence[int]) -> tuple[int, ...]:
        """As many tokens as the answer has, its end of turn among them, which stays."""
        alias = list(answer)
        for index, place in self._telling(answer[:-1]):
            own = answer[index]
            drawn = self._other_than(own, self._seen.get(place, []))
            drawn = self._other_than(own, self._anywhere) if drawn is None else drawn
            alias[index] = own if drawn is None else drawn
        return tuple(alias)

    def _telling(self, answer: Sequence[int]) -> Iterator[tuple[int, Place]]:
        before, run = _START, 0
        for index, token in enumerate(answer):
            if token in self._common:
                before, run = token, 0
            else:
                yield index, (before, run)
                run += 1

    def _other_than(self, token: int, others: Sequence[int]) -> int | None:
        """One of the others, or None where nothing else than the token itself is likely to be drawn."""
        for _ in range(_TRIES if others else 0):
            drawn = self._rng.choice(others)
            if drawn != token:
                return drawn
        return None
