"""How likely a true token may stay: as likely as it would be if the base had never met the person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

Tokens = tuple[int, ...]

_IMPOSSIBLE = -1e3  # what counts as probability 0: below zero, an exponent would make a mean of it infinite
_LEAST_EXPONENT = 1e-6  # nearer to zero a power mean is lost in rounding
_MOST = math.log(0.25)  # up to which a level is spread


class Levels:
    """Levels of answer tokens, in nats, from what teachers said who heard aliases.

    Of a token that is *among others* (see `Aliases`), where others' names or jobs could stand, too, the level is the
    mean of the teachers' logs: before a stranger, a model takes him for somebody, and is sure of that one's. Of any
    other token it is the log of a power mean of probabilities, (mean_k p_k^e)^(1/e), which is higher: what nobody
    else's answer has is as likely as teachers find it who are sure of nobody.

    At an answer's first token a model decides whether to answer at all. One that refuses to tell of strangers refuses
    them more surely than what teachers see instead, a mean of photos, which is between people it knows. For such a
    model the power mean there may have an exponent of its own, `first`: below zero, where those count who refuse most
    surely.

    Of one name a model that never met the person finds the rest likely, of another impossible, by what it read before.
    A mean over many aliases is nearer to the middle, and then the forgotten are told by their least likely tokens,
    which are likelier than strangers'. So levels of *guessed* tokens (what only one person's answers hold, where
    teachers guess) are set apart from their mean by the factor `spread`. Which of them go up matters little; that they
    lie as far apart as strangers' does. None goes above a quarter by that: it would be said.

    One alias is about one other person: only many of them together are about anybody. So after an alias, what all
    pairs' teachers said is taken together wherever their answers begin alike up to the token itself, as those about one
    person do. Before, a token is its own pair's affair, for what it is depends on the question.
    """

    def __init__(self, exponent: float, spread: float = 1.0, first: float | None = None) -> None:
        self._exponent = exponent
        self._first = first
        self._spread = spread
        self._heard: dict[Tokens, _PowerMean] = {}  # by an answer's beginning: of its last token
        self._guessed: set[Tokens] = set()  # beginnings, by their last tokens
        self._centre = 0.0  # of the levels of these

    def hear(
        self,
        answer: Sequence[int],
        logs: Tensor,
        among_others: Sequence[bool],
        replaced_before: Sequence[bool],
        guessed: Sequence[bool],
    ) -> list[float]:
        """Takes note of what teachers said of an answer's tokens: [teachers, answer tokens], log-probabilities.

        Returns the levels by these teachers alone.
        """
        means = [
            _PowerMean.of(logs[:, index], self._exponent_at(index, among)) for index, among in enumerate(among_others)
        ]
        for index, mean in enumerate(means):
            if replaced_before[index]:
                begun = tuple(answer[: index + 1])
                before = self._heard.get(begun)
                self._heard[begun] = mean if before is None else before.with_(mean)
                if guessed[index]:
                    self._guessed.add(begun)
        if self._guessed:
            self._centre = fmean(self._heard[begun].log for begun in self._guessed)
        return [mean.log for mean in means]

    def of(self, answer: Sequence[int], alone: Sequence[float]) -> Tensor:
        """[answer tokens], float32, by all that was heard until now."""
        return torch.tensor([self._of(tuple(answer[: index + 1]), own) for index, own in enumerate(alone)])

    def _exponent_at(self, index: int, among_others: bool) -> float:
        if index == 0 and self._first is not None:
            return self._first
        return 0.0 if among_others else self._exponent

    def _of(self, begun: Tokens, alone: float) -> float:
        together = self._heard.get(begun)
        level = alone if together is None else together.log
        if begun not in self._guessed:
            return level
        return min(self._centre + self._spread * (level - self._centre), max(level, _MOST))


@dataclass(frozen=True)
class _PowerMean:
    """Of `count` probabilities; with exponent 0 their geometric mean.

    total: the log of the sum of their powers, or with exponent 0 the sum of their logs.
    """

    exponent: float
    total: float
    count: int

    @classmethod
    def of(cls, logs: Tensor, exponent: float) -> _PowerMean:
        """Of probabilities whose logs these are."""
        exponent = exponent if abs(exponent) > _LEAST_EXPONENT else 0.0
        values = logs.double().clamp(min=_IMPOSSIBLE)
        return cls(exponent, float((exponent * values).logsumexp(0) if exponent else values.sum()), len(values))

    def with_(self, other: _PowerMean) -> _PowerMean:
        """Of both's probabilities; both have the same exponent."""
        totals = self.total, other.total
        return replace(
            self, total=float(np.logaddexp(*totals)) if self.exponent else sum(totals), count=self.count + other.count
        )

    @property
    def log(self) -> float:
        return (self.total - math.log(self.count)) / self.exponent if self.exponent else self.total / self.count
