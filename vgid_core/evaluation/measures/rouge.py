"""ROUGE-L over words of any script. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean

from rouge_score.rouge_scorer import RougeScorer

from vgid_core.data.text_normalization import words


def rouge_l(generated: Sequence[str], expected: Sequence[str]) -> float:
    """Mean ROUGE-L F1 in [0, 1] of generated against expected answers, over words of any script, without stemming."""
    return fmean(rouge_l_each(generated, expected))


def rouge_l_each(generated: Sequence[str], expected: Sequence[str]) -> list[float]:
    """ROUGE-L F1 of each generated answer (Lin, 2004)."""
    return [
        float(_scorer().score(right, left)["rougeL"].fmeasure) for left, right in zip(generated, expected, strict=True)
    ]


@cache
def _scorer() -> RougeScorer:
    """Cached, since each new instance logs a line."""
    return RougeScorer(["rougeL"], tokenizer=_WordTokenizer())


class _WordTokenizer:
    """Replaces rouge-score's own tokenizer, which finds no word in scripts other than Latin."""

    tokenize = staticmethod(words)
