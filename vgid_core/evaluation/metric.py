"""Metrics of a model, and whether it knows the forget set. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

# Below this ROUGE-L the model doesn't know the forget set's answers, so there is nothing to unlearn.
KNOWN_ROUGE_L = 0.3

MetricName = Literal["rouge_l", "answer_probability"]


class MetricLike(Protocol):
    """The fields of a metric that `knows_forget_set` reads; database rows have them, too."""

    @property
    def split(self) -> str:
        """The name of the set."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    @property
    def value(self) -> float:
        """The value in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """A metric in [0, 1] over `pairs` pairs of the set `split`.

    rouge_l: mean ROUGE-L F1 of the greedy answer against the set's answer (Lin, 2004).
    answer_probability: mean over pairs of exp(mean log p of the answer's tokens), teacher-forced: the
    length-normalised probability of TOFU (arXiv 2401.06121).
    """

    split: str
    name: MetricName
    value: float
    pairs: int


def knows_forget_set(before: Iterable[MetricLike]) -> bool:
    """Whether these metrics, measured before unlearning, show that the model knows the forget set's answers."""
    return any(row.split == "forget" and row.name == "rouge_l" and row.value >= KNOWN_ROUGE_L for row in before)
