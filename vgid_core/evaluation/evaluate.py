"""Measured behaviour of a model on a set: what it says by itself (ROUGE-L) and how likely it finds the old answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import PairSet
from vgid_core.data.text_normalization import words
from vgid_core.evaluation.metric import Metric
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import generate
from vgid_core.scoring.scorer import ScoredAnswer, Scorer


def generate_answers(base: BaseModel, pairs: PairSet, config: EvaluationConfig) -> list[str]:
    """What the model (with its adapter, if it carries one) says to each pair by its own `generate`, greedily."""
    said: list[list[int]] = []
    for start in range(0, len(pairs), config.batch_size):
        said += generate(base, pairs.pairs[start : start + config.batch_size], config.max_new_tokens)
    return base.encoder.decode(said)


def answer_probabilities(examined: Sequence[ScoredAnswer]) -> list[float]:
    """exp(mean log p) of each pair's own answer."""
    return [float(answer.log_probabilities.mean().exp()) for answer in examined]


def rouge_l(said: list[str], expected: list[str]) -> float:
    """Mean ROUGE-L F1 in [0, 1] of `said` against `expected`, pair by pair, over `words.words`, without stemming."""
    scores = [_scorer().score(right, left)["rougeL"].fmeasure for left, right in zip(said, expected, strict=True)]
    return float(sum(scores) / len(scores))


def evaluate(
    base: BaseModel,
    scorer: Scorer,
    sets: list[PairSet],
    config: EvaluationConfig,
    on_share: Callable[[float], None] | None = None,
) -> list[Metric]:
    """Both metrics on an even sample of each set. `on_share` hears which share (0 to 1) of the pairs is done."""
    samples = [items.sample(config.max_pairs) for items in sets]
    total, done, metrics = sum(map(len, samples)), 0, []
    for items in samples:
        examined = scorer.score_answers(items.pairs, config)
        said = base.encoder.decode([answer.generated_ids for answer in examined])
        score = rouge_l(said, [pair.answer for pair in items])
        likelihood = answer_probabilities(examined)
        metrics.append(Metric(items.name, "rouge_l", score, len(items)))
        metrics.append(Metric(items.name, "answer_probability", sum(likelihood) / len(items), len(items)))
        done += len(items)
        if on_share is not None:
            on_share(done / total)
    return metrics


@cache
def _scorer() -> RougeScorer:
    """One for all: each new one logs a line."""
    return RougeScorer(["rougeL"], tokenizer=_Words())


class _Words:
    """In the place of rouge-score's own tokenizer, to which answers in other scripts than Latin are empty."""

    tokenize = staticmethod(words)
