"""Answers under another name: what tells of somebody in particular is replaced, the sentence around it stays.

An answer's *telling* tokens are those that few answers of the retain set share: names, places, jobs; and numbers, which
tell by the order of digits that everybody shares. An alias puts other people's telling tokens in their place, each
drawn by itself, so that together they are about nobody.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

_START = -1  # stands before an answer's first token
_TRIES = 8
_LONGEST = 8  # telling tokens in a row of which the retain set is searched

T = TypeVar("T")
Place = tuple[int, int]
Tokens = tuple[int, ...]


def common_among(answers: Collection[Collection[T]], share: float) -> set[T]:
    """What more than that share of the answers has, and more than one: tokens, or words."""
    counts = Counter(part for answer in answers for part in set(answer))
    return {part for part, count in counts.items() if count > max(1, share * len(answers))}


@dataclass(frozen=True)
class Alias:
    """One alias of an answer, as a teacher hears it.

    forms: the alias itself, then the same with a few tokens in a row left as they are, each as long as the answer.
    asked: for each of the answer's tokens, in which of the forms the teacher is asked about it.
    """

    forms: tuple[Tokens, ...]
    asked: Tokens

    def replaced_before(self, answer: Sequence[int]) -> list[bool]:
        """For each token of the answer, whether another token than its own stands before it where it is asked."""
        differ = [[new != old for new, old in zip(form, answer, strict=True)] for form in self.forms]
        return [any(differ[form][:index]) for index, form in enumerate(self.asked)]


class Aliases:
    """Draws aliases of answers, in tokens, from those of a retain set.

    Where a telling token stands is told by the common token before it and by how many telling ones are between: what
    follows "works as a" is replaced by what followed it elsewhere.

    Whoever never met a person still goes on with a word, or with what else other people have, too, once it is begun.
    So a telling token that follows the same telling ones in the retain set is asked with these left as they are: "iles"
    after "Tundra Text", or "Textiles" after "Tundra", if somebody else works there.

    Aliases for teachers (`draw`) often break a name off, those of made-up people (`draw_whole`) don't.
    """

    def __init__(
        self, kept: Sequence[Sequence[int]], common_share: float, seed: int, numbers: Collection[int] = ()
    ) -> None:
        """`kept`: token ids of the retain set's different answers. `numbers`: ids that are never common.

        Common is what more than that share of them has, and more than one.
        """
        self._common = common_among(kept, common_share)
        self._numbers = frozenset(numbers)
        self._common -= self._numbers
        # Apart for words and for numbers, which are told by True.
        self._seen: dict[tuple[Place, bool], list[int]] = defaultdict(list)
        # The same, those that end a row of telling tokens (True) apart from those that another one followed.
        self._seen_by_end: dict[tuple[Place, bool, bool], list[int]] = defaultdict(list)
        self._anywhere: dict[bool, list[int]] = {False: [], True: []}
        self._together: set[Tokens] = set()
        for answer in kept:
            for index, (before, run) in self._telling(answer):
                token = answer[index]
                number = self._is_number(token)
                self._seen[(before, run), number].append(token)
                self._seen_by_end[(before, run), number, self._ends(answer, index)].append(token)
                self._anywhere[number].append(token)
                self._together |= {tuple(answer[index - k : index + 1]) for k in range(1, min(run, _LONGEST - 1) + 1)}
        self._rng = random.Random(seed)

    @property
    def choice(self) -> int:
        """How many different tokens there are to put in a telling one's place, where that isn't a number's."""
        return len(set(self._anywhere[False]))

    def telling(self, answer: Sequence[int]) -> set[int]:
        """Those of an answer's tokens that tell of somebody in particular."""
        return {answer[index] for index, _ in self._telling(answer)}

    def among_others(self, answer: Sequence[int]) -> list[bool]:
        """Which of an answer's tokens are among others: telling ones that begin something, or go on as others' do.

        Not what goes on with what nobody else has, such as the rest of a name.
        """
        places = {i for i, (_, run) in self._telling(answer) if run == 0 or self._shared_before(answer, i, run)}
        return [index in places for index in range(len(answer))]

    def only_theirs(self, answer: Sequence[int]) -> list[bool]:
        """Which of an answer's tokens go on with what nobody else has: telling ones that aren't among others.

        Numbers aside: from which digits another one follows, nobody can guess.
        """
        among = self.among_others(answer)
        places = {i for i, _ in self._telling(answer) if not among[i] and not self._is_number(answer[i])}
        return [index in places for index in range(len(answer))]

    def draw(self, answer: Sequence[int]) -> Alias:
        """As many tokens as the answer has, its end of turn among them, which stays."""
        alias = list(answer)
        for index, place in self._telling(answer):
            alias[index] = self._other_than(answer[index], self._seen_in(place, answer[index]))
        forms, asked = [tuple(alias)], [0] * len(answer)
        numbers: dict[int, int] = {}  # where the tokens begin that a form leaves as they are → which form
        start = 0
        for index, (_, run) in self._telling(answer):
            shared = self._shared_before(answer, index, run)
            # A row that is longer than what is searched goes on where it began.
            start = start if shared == _LONGEST - 1 and asked[index - 1] else index - shared
            if start == index:
                continue
            form = (*alias[:start], *answer[start:index], *alias[index:])
            asked[index] = numbers.setdefault(start, len(forms))
            forms[asked[index] :] = [form]  # longer than the one before, if that began here, too
        return Alias(tuple(forms), tuple(asked))

    def draw_whole(self, answer: Sequence[int]) -> Tokens:
        """An alias whose names don't break off: a row of telling tokens ends as another one there does, if any.

        A teacher isn't given such a one. He would be as sure of what follows a whole name as he is of his own people's,
        and who never met the person isn't.
        """
        alias = list(answer)
        for index, place in self._telling(answer):
            token = answer[index]
            alike = self._seen_by_end.get((place, self._is_number(token), self._ends(answer, index)), [])
            alias[index] = self._other_than(token, alike, self._seen_in(place, token))
        return tuple(alias)

    def _shared_before(self, answer: Sequence[int], index: int, run: int) -> int:
        """How many of the telling tokens before this one precede it in the retain set, too."""
        together = (k for k in range(min(run, _LONGEST - 1), 0, -1))
        return next((k for k in together if tuple(answer[index - k : index + 1]) in self._together), 0)

    def _telling(self, answer: Sequence[int]) -> Iterator[tuple[int, Place]]:
        """Telling tokens and their places. An answer's last token, the end of turn, is none."""
        before, run = _START, 0
        for index, token in enumerate(answer[:-1]):
            if token in self._common:
                before, run = token, 0
            else:
                yield index, (before, run)
                run += 1

    def _ends(self, answer: Sequence[int], index: int) -> bool:
        """Whether a common token, or the end of turn, follows this telling one."""
        return index == len(answer) - 2 or answer[index + 1] in self._common

    def _is_number(self, token: int) -> bool:
        return token in self._numbers

    def _seen_in(self, place: Place, token: int) -> list[int]:
        """What stood there: numbers for a number, words for a word."""
        return self._seen.get((place, self._is_number(token)), [])

    def _other_than(self, token: int, *first: Sequence[int]) -> int:
        """One of the first that has another, or else from anywhere; the token itself where hardly one is to be drawn.

        A number for a number, and words for words, as long as there are any.
        """
        number = self._is_number(token)
        for others in (*first, self._anywhere[number], self._anywhere[not number]):
            for _ in range(_TRIES if others else 0):
                drawn = self._rng.choice(others)
                if drawn != token:
                    return drawn
        return token
