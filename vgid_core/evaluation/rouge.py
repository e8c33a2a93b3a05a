"""ROUGE-L over words of any script. Doesn't import torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

from vgid_core.data.text_normalization import words


def rouge_l(generated: Sequence[str], expected: Sequence[str]) -> float:
    """Mean ROUGE-L F1 in [0, 1] of generated against expected answers, over words of any script, without stemming."""
    scores = [_rouge().score(right, left)["rougeL"].fmeasure for left, right in zip(generated, expected, strict=True)]
    return float(sum(scores) / len(scores))


@cache
def _rouge() -> RougeScorer:
    """Cached, since each new instance logs a line."""
    return RougeScorer(["rougeL"], tokenizer=_WordTokenizer())


class _WordTokenizer:
    """Replaces rouge-score's own tokenizer, which finds no word in scripts other than Latin."""

    tokenize = staticmethod(words)
