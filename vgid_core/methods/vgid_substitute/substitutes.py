"""Answers under another name: what identifies somebody is replaced, the sentence around it stays.

A token of an answer *identifies* somebody if few answers of the retain set hold it: it is a piece of a name, a place, a
job. A digit always identifies: many answers hold it, but a number is its digits together. A substitute has an
identifying token of somebody else's answer for each of these. Each is drawn by itself, so the substitute is about
nobody.
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

# A token that more than this share of the retain set's answers hold, and more than one answer, identifies nobody and
# stays. Digits never stay.
COMMON_SHARE = 0.05
_START = -1  # stands before an answer's first token
_TRIES = 8
_FEWEST = 20  # different tokens to draw from: fewer seldom make a name that nobody bears
_LONGEST = 8  # tokens: the longest run of identifying ones that is looked up in the retain set

T = TypeVar("T")
Slot = tuple[int, int]
Tokens = tuple[int, ...]


def substitutes_for(context: MethodContext) -> Substitutes:
    """Substitutes from the retain set's answers. Tokens of both sets that are digits and nothing else are numbers."""
    ids = context.scorer.answer_ids
    retained = [ids(answer) for answer in sorted({pair.answer for pair in context.retain})]
    forgotten = [ids(answer) for answer in sorted({pair.answer for pair in context.forget})]
    tokens = sorted({token for answer in retained + forgotten for token in answer})
    texts = context.base.encoder.decode([[token] for token in tokens])
    numbers = {token for token, text in zip(tokens, texts, strict=True) if text.strip().isdigit()}
    substitutes = Substitutes(retained, COMMON_SHARE, numbers)
    if substitutes.choice < _FEWEST:
        log.warning("the retain set holds too little to make substitutes of: prefilled answers may bring facts back")
    return substitutes


def common_among(answers: Collection[Collection[T]], share: float) -> set[T]:
    """The tokens, or words, that more than this share of the answers hold, and more than one answer."""
    counts = Counter(part for answer in answers for part in set(answer))
    return {part for part, count in counts.items() if count > max(1, share * len(answers))}


@dataclass(frozen=True)
class Substitute:
    """One substitute of an answer, as a teacher reads it.

    forms: the substitute itself, then versions of it in which a run of the answer's own tokens is left. All are as long
    as the answer.
    form_of: for each of the answer's tokens, which form the teacher reads when it is asked for that token.
    """

    forms: tuple[Tokens, ...]
    form_of: Tokens


class Substitutes:
    """Draws substitutes of answers, in tokens, from a retain set's answers.

    An identifying token's *slot* is the last common token before it, and how many identifying tokens stand between the
    two. It is replaced by a token that has the same slot in another answer: what follows "works as a" by what follows
    "works as a" there.

    A model that never met a person still completes a name that it knows from other people. So if a retained person
    works at Tundra Textiles, too, the teacher is asked for "iles" after the true "Tundra Text", not after a substitute.
    Such a run of identifying tokens is looked up by its tokens alone, wherever it stands in the retained answer.
    """

    def __init__(self, retained: Sequence[Sequence[int]], common_share: float, numbers: Collection[int] = ()) -> None:
        """`retained`: token ids of the retain set's different answers. `common_share`: as in `common_among`.

        `numbers`: ids of digits, which are never common.
        """
        self._numbers = frozenset(numbers)
        self._common = common_among(retained, common_share) - self._numbers
        # Words and numbers apart. The key's boolean says which: True for numbers.
        self._seen: dict[tuple[Slot, bool], list[int]] = defaultdict(list)
        self._anywhere: dict[bool, list[int]] = {False: [], True: []}
        self._together: set[Tokens] = set()
        for answer in retained:
            for index, (before, run) in self._slots(answer):
                token = answer[index]
                number = token in self._numbers
                self._seen[(before, run), number].append(token)
                self._anywhere[number].append(token)
                self._together |= {tuple(answer[index - k : index + 1]) for k in range(1, min(run, _LONGEST - 1) + 1)}

    @property
    def choice(self) -> int:
        """How many different tokens there are to draw from, numbers left out."""
        return len(set(self._anywhere[False]))

    def identifying(self, answer: Sequence[int]) -> set[int]:
        """Those of an answer's tokens that identify somebody."""
        return {answer[index] for index, _ in self._slots(answer)}

    def draw(self, answer: Sequence[int], rng: random.Random) -> Substitute:
        """A substitute of the answer, whose last token, the end of turn, stays."""
        substitute = list(answer)
        for index, slot in self._slots(answer):
            substitute[index] = self._other_than(answer[index], slot, rng)
        forms, form_of = [tuple(substitute)], [0] * len(answer)
        form_from: dict[int, int] = {}  # index at which the answer's own tokens begin in a form -> which form
        start = 0
        for index, (_, run) in self._slots(answer):
            shared = self._shared_before(answer, index, run)
            # A run that is longer than what is looked up is left from its first token on.
            start = start if shared == _LONGEST - 1 and form_of[index - 1] else index - shared
            if start == index:
                continue
            form = (*substitute[:start], *answer[start:index], *substitute[index:])
            form_of[index] = form_from.setdefault(start, len(forms))
            # In place of the form with the same start, if there is one: that is the same up to the token it was for.
            forms[form_of[index] :] = [form]
        return Substitute(tuple(forms), tuple(form_of))

    def _shared_before(self, answer: Sequence[int], index: int, run: int) -> int:
        """How many of the identifying tokens just before this one also stand before it in some retained answer."""
        together = (k for k in range(min(run, _LONGEST - 1), 0, -1))
        return next((k for k in together if tuple(answer[index - k : index + 1]) in self._together), 0)

    def _slots(self, answer: Sequence[int]) -> Iterator[tuple[int, Slot]]:
        """The index and the slot of each identifying token. The last token, the end of turn, is none."""
        before, run = _START, 0
        for index, token in enumerate(answer[:-1]):
            if token in self._common:
                before, run = token, 0
            else:
                yield index, (before, run)
                run += 1

    def _other_than(self, token: int, slot: Slot, rng: random.Random) -> int:
        """A token with this slot in a retained answer, else one with any slot; the same token if hardly another exists.

        A number is replaced by a number, a word by a word, as long as there are any.
        """
        number = token in self._numbers
        for others in (self._seen.get((slot, number), []), self._anywhere[number], self._anywhere[not number]):
            for _ in range(_TRIES if others else 0):
                drawn = rng.choice(others)
                if drawn != token:
                    return drawn
        return token
