"""How likely a true token may stay: as likely as it would be if the base had never met the person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Tokens = tuple[int, ...]


class Levels:
    """Levels of answer tokens, in nats, from what teachers said who heard aliases.

    Of a token that is *among others* (see `Aliases`), where others' names or jobs could stand, too, the level is the
    mean of the teachers' logs: before a stranger, a model takes him for somebody, and is sure of that one's. Of any
    other token it is the log of a power mean of probabilities, (mean_k p_k^e)^(1/e), which is higher: what nobody
    else's answer has is as likely as teachers find it who are sure of nobody.

    One alias is about one other person: only many of them together are about anybody. So after an alias, what all
    pairs' teachers said is taken together wherever their answers begin alike up to the token itself, as those about one
    person do. Before, a token is its own pair's affair, for what it is depends on the question.
    """

    def __init__(self, exponent: float) -> None:
        self._exponent = exponent
        self._heard: dict[Tokens, _PowerMean] = {}  # by an answer's beginning: of its last token

    def hear(
        self, answer: Sequence[int], logs: Tensor, among_others: Sequence[bool], replaced_before: Sequence[bool]
    ) -> list[float]:
        """Takes note of what teachers said of an answer's tokens: [teachers, answer tokens], log-probabilities.

        Returns the levels by these teachers alone.
        """
        alone = []
        for index, among in enumerate(among_others):
            mean = _PowerMean(0.0 if among else self._exponent)
            mean.add(logs[:, index])
            alone.append(mean.log)
            if replaced_before[index]:
                self._heard.setdefault(tuple(answer[: index + 1]), _PowerMean(mean.exponent)).add(logs[:, index])
        return alone

    def of(self, answer: Sequence[int], alone: Sequence[float]) -> Tensor:
        """[answer tokens], float32, by all that was heard until now."""
        together = [self._heard.get(tuple(answer[: index + 1])) for index in range(len(answer))]
        return torch.tensor([own if mean is None else mean.log for own, mean in zip(alone, together, strict=True)])


@dataclass
class _PowerMean:
    """Of probabilities, added up as logs; with exponent 0 their geometric mean."""

    exponent: float
    _total: float | None = None
    _count: int = 0

    def add(self, logs: Tensor) -> None:
        values = logs.double()
        total = float((self.exponent * values).logsumexp(0) if self.exponent else values.sum())
        if self._total is not None:
            total = float(np.logaddexp(self._total, total)) if self.exponent else self._total + total
        self._total = total
        self._count += len(values)

    @property
    def log(self) -> float:
        assert self._total is not None
        return (self._total - math.log(self._count)) / self.exponent if self.exponent else self._total / self._count
