"""The figures that are measured of a model, and what they say of it. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

# Below this ROUGE-L a model doesn't give the forget set's answers: there is nothing to unlearn.
KNOWN = 0.3

MetricName = Literal["rouge_l", "answer_probability"]


class Figure(Protocol):
    """One measured number, wherever it is kept."""

    @property
    def split(self) -> str:
        """The set it was measured on."""

    @property
    def name(self) -> str:
        """What was measured."""

    @property
    def value(self) -> float:
        """In [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """One figure in [0, 1]: `name` measured over `pairs` pairs of the set called `split`.

    rouge_l: mean ROUGE-L F1 of the greedy answer against the set's answer (Lin, 2004).
    answer_probability: mean over pairs of exp(mean log p of the answer's tokens), teacher-forced: the
    length-normalised probability of TOFU (arXiv 2401.06121).
    """

    split: str
    name: MetricName
    value: float
    pairs: int


def knows_forget_set(before: Iterable[Figure]) -> bool:
    """Whether a model whose figures before unlearning these are gives the forget set's answers at all."""
    return any(row.split == "forget" and row.name == "rouge_l" and row.value >= KNOWN for row in before)
