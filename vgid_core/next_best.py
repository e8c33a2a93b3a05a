"""What somebody would say who doesn't know how an answer goes on, though it knows how it began: the next best guess."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vgid_core.encoding import PromptEncoder

_BROKEN = "\ufffd"  # stands for bytes that are no whole character
_LAST = "\U0010ffff"


class NextBest:
    """Guesses without the truth, of a model that knows it.

    Taken away are the true token and every other that begins as the text does which is to come: " Nor" and "Nor",
    "ri" for "rique", "rich" for "ri". Else the truth would be said in other tokens. What is left of a model that was
    sure of the truth is flat; `temperature` below 1 sharpens it to what a model says that is sure and wrong.
    """

    def __init__(self, encoder: PromptEncoder, temperature: float) -> None:
        self._encoder = encoder
        self._temperature = temperature
        self._alike: dict[tuple[int, ...], list[int]] = {}

    def of(self, logits: Tensor, coming: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities [places, vocabulary], float32, from a model's logits at these places, which are overwritten.

        coming: for each place the answer's tokens from there on, its end of turn among them.
        """
        for row, tokens in zip(logits, coming, strict=True):
            row[torch.tensor(self.alike(tokens), device=logits.device)] = -torch.inf
        return (logits.float() / self._temperature).softmax(-1)

    def alike(self, coming: Sequence[int]) -> list[int]:
        """The first of these tokens and all that begin as they do, upper and lower case being the same."""
        key = tuple(coming)
        if key not in self._alike:
            [text] = self._encoder.decode([key])
            self._alike[key] = sorted({key[0], *self._beginnings_of(_plain(text)), *self._longer_than(key[0])})
        return self._alike[key]

    def _beginnings_of(self, text: str) -> list[int]:
        return [token for end in range(1, len(text) + 1) for token in self._by_text.get(text[:end], ())]

    def _longer_than(self, token: int) -> list[int]:
        [own] = self._encoder.decode([[token]])
        if not (begun := _plain(own)) or _BROKEN in begun:
            return []
        first, end = (bisect_left(self._texts, bound) for bound in (begun, begun + _LAST))
        return [token for text in self._texts[first:end] for token in self._by_text[text]]

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        """Every token of the vocabulary that says something, by what it says."""
        found: dict[str, list[int]] = {}
        for token, text in enumerate(self._encoder.decode([[token] for token in range(self._encoder.vocabulary)])):
            if (plain := _plain(text)) and _BROKEN not in plain:
                found.setdefault(plain, []).append(token)
        return found

    @cached_property
    def _texts(self) -> list[str]:
        return sorted(self._by_text)


def _plain(text: str) -> str:
    return text.strip().casefold()
