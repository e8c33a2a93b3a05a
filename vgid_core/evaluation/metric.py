"""Metrics of a model on sets of pairs. Doesn't import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricName = Literal["rouge_l", "answer_probability"]


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
