"""Answers under another name: what identifies somebody is replaced, the sentence around it stays.

An answer's *identifying* tokens are those that few answers of the retain set share: names, places, jobs; and numbers,
which identify by the order of digits that everybody shares. An alias puts other people's identifying tokens in their
place, each drawn by itself, so that together they are about nobody.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vgid_core.methods.base import MethodContext

log = logging.getLogger(__name__)

# A token that a larger share of the retain set's answers holds identifies nobody, and stays; a number never does.
COMMON_SHARE = 0.05
_START = -1  # stands before an answer's first token
_TRIES = 8
_FEWEST = 20  # different tokens, below which a name is hardly ever replaced by an unknown one
_LONGEST = 8  # identifying tokens in a row that are looked up in the retain set

T = TypeVar("T")
Place = tuple[int, int]
Tokens = tuple[int, ...]


def aliases_for(context: MethodContext) -> Aliases:
    """Made of the retain set's answers; tokens, the forget set's too, that are digits and nothing else are numbers."""
    ids = context.scorer.answer_ids
    retained = [ids(answer) for answer in sorted({pair.answer for pair in context.retain})]
    forgotten = [ids(answer) for answer in sorted({pair.answer for pair in context.forget})]
    tokens = sorted({token for answer in retained + forgotten for token in answer})
    texts = context.base.encoder.decode([[token] for token in tokens])
    numbers = {token for token, text in zip(tokens, texts, strict=True) if text.strip().isdigit()}
    aliases = Aliases(retained, COMMON_SHARE, numbers)
    if aliases.choice < _FEWEST:
        log.warning("the retain set holds too little to make aliases of: begun answers may bring facts back")
    return aliases


def common_among(answers: Collection[Collection[T]], share: float) -> set[T]:
    """What more than that share of the answers has, and more than one: tokens, or words."""
    counts = Counter(part for answer in answers for part in set(answer))
    return {part for part, count in counts.items() if count > max(1, share * len(answers))}


@dataclass(frozen=True)
class Alias:
    """One alias of an answer, as a teacher reads it.

    forms: the alias itself, then the same with a few tokens in a row left as they are, each as long as the answer.
    form_of: for each of the answer's tokens, the form in which the teacher is asked about it.
    """

    forms: tuple[Tokens, ...]
    form_of: Tokens


class Aliases:
    """Draws aliases of answers, in tokens, from those of a retain set.

    An identifying token's place is the last common token before it, and the number of identifying ones between the two:
    what follows "works as a" is replaced by what follows it in another answer.

    A model that never met a person still completes a name that it knows from other people. So where the retain set has
    an identifying token behind the same identifying ones, the teacher reads those as they are, not replaced: after
    "Tundra Text" it is asked for "iles", after "Tundra" for "Textiles", if somebody else works there.
    """

    def __init__(self, retained: Sequence[Sequence[int]], common_share: float, numbers: Collection[int] = ()) -> None:
        """`retained`: token ids of the retain set's different answers. `numbers`: ids that are never common.

        Common is what more than that share of them has, and more than one.
        """
        self._numbers = frozenset(numbers)
        self._common = common_among(retained, common_share) - self._numbers
        # Words and numbers apart. The key's boolean says which: True for numbers.
        self._seen: dict[tuple[Place, bool], list[int]] = defaultdict(list)
        self._anywhere: dict[bool, list[int]] = {False: [], True: []}
        self._together: set[Tokens] = set()
        for answer in retained:
            for index, (before, run) in self._places(answer):
                token = answer[index]
                number = token in self._numbers
                self._seen[(before, run), number].append(token)
                self._anywhere[number].append(token)
                self._together |= {tuple(answer[index - k : index + 1]) for k in range(1, min(run, _LONGEST - 1) + 1)}

    @property
    def choice(self) -> int:
        """How many different tokens there are to put in an identifying one's place, where that isn't a number's."""
        return len(set(self._anywhere[False]))

    def identifying(self, answer: Sequence[int]) -> set[int]:
        """Those of an answer's tokens that identify somebody."""
        return {answer[index] for index, _ in self._places(answer)}

    def draw(self, answer: Sequence[int], rng: random.Random) -> Alias:
        """As many tokens as the answer has, its end of turn among them, which stays."""
        alias = list(answer)
        for index, place in self._places(answer):
            alias[index] = self._other_than(answer[index], place, rng)
        forms, form_of = [tuple(alias)], [0] * len(answer)
        numbers: dict[int, int] = {}  # where the tokens begin that a form leaves as they are -> which form
        start = 0
        for index, (_, run) in self._places(answer):
            shared = self._shared_before(answer, index, run)
            # A row that is longer than what is looked up goes on where it began.
            start = start if shared == _LONGEST - 1 and form_of[index - 1] else index - shared
            if start == index:
                continue
            form = (*alias[:start], *answer[start:index], *alias[index:])
            form_of[index] = numbers.setdefault(start, len(forms))
            forms[form_of[index] :] = [form]  # longer than the one before, if that began here, too
        return Alias(tuple(forms), tuple(form_of))

    def _shared_before(self, answer: Sequence[int], index: int, run: int) -> int:
        """How many of the identifying tokens before this one precede it in the retain set, too."""
        together = (k for k in range(min(run, _LONGEST - 1), 0, -1))
        return next((k for k in together if tuple(answer[index - k : index + 1]) in self._together), 0)

    def _places(self, answer: Sequence[int]) -> Iterator[tuple[int, Place]]:
        """Identifying tokens and where they stand. An answer's last token, the end of turn, is none."""
        before, run = _START, 0
        for index, token in enumerate(answer[:-1]):
            if token in self._common:
                before, run = token, 0
            else:
                yield index, (before, run)
                run += 1

    def _other_than(self, token: int, place: Place, rng: random.Random) -> int:
        """One that stands there elsewhere, or else from anywhere; the token itself where hardly one is to be drawn.

        A number for a number, and words for words, as long as there are any.
        """
        number = token in self._numbers
        for others in (self._seen.get((place, number), []), self._anywhere[number], self._anywhere[not number]):
            for _ in range(_TRIES if others else 0):
                drawn = rng.choice(others)
                if drawn != token:
                    return drawn
        return token
