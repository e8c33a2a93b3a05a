"""What a model would say that doesn't know how an answer goes on, though it knows how it began: the next best guess."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vgid_core.data.text import alike

if TYPE_CHECKING:
    from vgid_core.models.encoding import PromptEncoder

_BROKEN = "\ufffd"  # stands for bytes that are no whole character
_LAST = "\U0010ffff"  # sorts behind every text that begins as the one before it
_REPEATED = 2  # letters of what is to come, after some that were said already

Place = tuple[Sequence[int], int]  # an answer's tokens, its end of turn among them, and which of them is asked for


@dataclass(frozen=True)
class Untold:
    """What no guess may tell.

    telling: those of an answer's tokens that tell of somebody (`Aliases.telling`). forgotten, kept: tokens of the
    forget set's answers and of the retain set's: what only the former hold tells of those who are to be forgotten.
    """

    telling: Callable[[Sequence[int]], Collection[int]]
    forgotten: Collection[int] = ()
    kept: Collection[int] = ()


class NextBest:
    """Guesses without the truth, of a model that knows it.

    Taken away are the true token and every other that says the truth's beginning or goes on from the true token: "Nor"
    for " Nor", "rich" for "ri". Else the truth would be said in other tokens. Inside a word that is so with those, too,
    that begin by saying its last letters again: "sen" after "Sorens", of Sorensen. Capitals, marks over letters and
    what stands before the first letter make no difference (a space or a hyphen alone says nothing, and stays).

    Nor may the truth be told in another order. After "Del" a model that knows Delphine Wexler, and mayn't say
    "phine", says "Wexler": so what begins a later telling word of the answer is taken away, too, with later telling
    tokens as they are, and everywhere what only the forget set's answers hold.

    What is left of a model that was sure of the truth is flat; `temperature` below 1 sharpens it to what a model says
    that is sure and wrong.

    Of a script whose characters take several tokens, the true token alone is taken away where it is a part of one.
    """

    def __init__(self, encoder: PromptEncoder, temperature: float, untold: Untold) -> None:
        self._encoder = encoder
        self._temperature = temperature
        self._telling = untold.telling
        self._gone: dict[tuple[tuple[int, ...], int], list[int]] = {}
        self._by_text: dict[str, list[int]] = {}
        texts = [_plain(text) for text in encoder.decode([[token] for token in range(encoder.vocabulary)])]
        for token, text in enumerate(texts):
            if text and _BROKEN not in text:
                self._by_text.setdefault(text, []).append(token)
        self._texts = sorted(self._by_text)
        theirs = {texts[token] for token in untold.forgotten} - {texts[token] for token in untold.kept}
        self._theirs = set(untold.forgotten) - set(untold.kept)
        self._theirs.update(token for text in theirs for token in self._by_text.get(text, ()))

    def of(self, logits: Tensor, places: Sequence[Place]) -> Tensor:
        """Probabilities [places, vocabulary], float32, from a model's logits at these places, which are overwritten."""
        for row, (answer, place) in zip(logits, places, strict=True):
            gone = [token for token in self.untold(answer, place) if token < len(row)]
            row[torch.tensor(gone, device=logits.device)] = -torch.inf
        return (logits.float() / self._temperature).softmax(-1)

    def untold(self, answer: Sequence[int], place: int) -> list[int]:
        """What a guess there may not say."""
        key = tuple(answer), place
        if key not in self._gone:
            telling = self._telling(answer)
            later = (at for at in range(place + 1, len(answer)) if answer[at] in telling)
            told = chain.from_iterable(self._told_at(answer, at) for at in later)
            self._gone[key] = sorted({*self.alike(answer, place), *told, *self._theirs})
        return self._gone[key]

    def alike(self, answer: Sequence[int], place: int) -> set[int]:
        """The answer's token there and all others that say as much."""
        before, coming = self._around(answer, place)
        [own] = self._encoder.decode([answer[place : place + 1]])
        found = {answer[place], *self._beginnings_of(_plain(coming)), *self._longer_than(_plain(own))}
        if coming[:1].isalnum():
            found.update(self._repeating(_last_word(before), _first_word(coming)))
        return found

    def _told_at(self, answer: Sequence[int], later: int) -> Iterator[int]:
        """The token there and, where a word begins with it, all that begin that word."""
        yield answer[later]
        before, coming = self._around(answer, later)
        if not (before[-1:].isalnum() and coming[:1].isalnum()):
            yield from self._beginnings_of(_first_word(coming))

    def _around(self, answer: Sequence[int], place: int) -> tuple[str, str]:
        """What is said before that token, and what from there on."""
        [before, whole, own] = self._encoder.decode([answer[:place], answer, answer[place : place + 1]])
        # Half a character before reads otherwise once the other half is there.
        return before, whole.removeprefix(before) if whole.startswith(before) else own

    def _beginnings_of(self, text: str, least: int = 1) -> Iterator[int]:
        for end in range(least, len(text) + 1):
            yield from self._by_text.get(text[:end], ())

    def _longer_than(self, begun: str) -> Iterator[int]:
        if begun:
            first, end = (bisect_left(self._texts, bound) for bound in (begun, begun + _LAST))
            for text in self._texts[first:end]:
                yield from self._by_text[text]

    def _repeating(self, said: str, coming: str) -> Iterator[int]:
        """Tokens that say the last letters of a word again and then how it goes on."""
        for again in range(1, len(said) + 1):
            yield from self._beginnings_of(said[-again:] + coming, again + min(_REPEATED, len(coming)))


def _plain(text: str) -> str:
    """Without capitals, marks over letters, and what stands before the first letter or digit."""
    apart = unicodedata.normalize("NFKD", alike(text))
    bare = "".join(part for part in apart if not unicodedata.combining(part))
    start = next((index for index, part in enumerate(bare) if part.isalnum() or part == _BROKEN), len(bare))
    return bare[start:]


def _first_word(text: str) -> str:
    plain = _plain(text)
    return plain[: next((index for index, part in enumerate(plain) if not part.isalnum()), len(plain))]


def _last_word(text: str) -> str:
    return _first_word(text[::-1])[::-1] if text[-1:].isalnum() else ""
