"""What somebody would say who doesn't know how an answer goes on, though it knows how it began: the next best guess."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vgid_core.words import alike

if TYPE_CHECKING:
    from vgid_core.encoding import PromptEncoder

_BROKEN = "\ufffd"  # stands for bytes that are no whole character
_LAST = "\U0010ffff"  # sorts behind every text that begins as the one before it
_REPEATED = 2  # letters of what is to come, after some that were said already

Place = tuple[Sequence[int], int]  # an answer's tokens, its end of turn among them, and which of them is asked for


class NextBest:
    """Guesses without the truth, of a model that knows it.

    Taken away are the true token and every other that says the truth's beginning or goes on from the true token: "Nor"
    for " Nor", "rich" for "ri". Else the truth would be said in other tokens. Inside a word that is so with those, too,
    that begin by saying its last letters again: "sen" after "Sorens", of Sorensen. Capitals, marks over letters and
    what stands before the first letter make no difference. What is left of a model that was sure of the truth is flat;
    `temperature` below 1 sharpens it to what a model says that is sure and wrong.

    Of a script whose characters take several tokens, the true token alone is taken away where it is a part of one.
    """

    def __init__(self, encoder: PromptEncoder, temperature: float) -> None:
        self._encoder = encoder
        self._temperature = temperature
        self._alike: dict[tuple[tuple[int, ...], int], list[int]] = {}
        self._by_text: dict[str, list[int]] = {}
        for token, text in enumerate(encoder.decode([[token] for token in range(encoder.vocabulary)])):
            if (plain := _plain(text)) and _BROKEN not in plain:
                self._by_text.setdefault(plain, []).append(token)
        self._texts = sorted(self._by_text)

    def of(self, logits: Tensor, places: Sequence[Place]) -> Tensor:
        """Probabilities [places, vocabulary], float32, from a model's logits at these places, which are overwritten."""
        for row, (answer, place) in zip(logits, places, strict=True):
            gone = [token for token in self.alike(answer, place) if token < len(row)]
            row[torch.tensor(gone, device=logits.device)] = -torch.inf
        return (logits.float() / self._temperature).softmax(-1)

    def alike(self, answer: Sequence[int], place: int) -> list[int]:
        """The answer's token there and all others that say as much."""
        key = tuple(answer), place
        if key not in self._alike:
            [before, whole, own] = self._encoder.decode([answer[:place], answer, answer[place : place + 1]])
            # Half a character before reads otherwise once the other half is there.
            coming = whole.removeprefix(before) if whole.startswith(before) else own
            found = {answer[place], *self._beginnings_of(_plain(coming)), *self._longer_than(_plain(own))}
            if coming[:1].isalnum():
                found.update(self._repeating(_last_word(before), _first_word(coming)))
            self._alike[key] = sorted(found)
        return self._alike[key]

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
