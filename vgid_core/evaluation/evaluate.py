"""Metrics of a model on sets of pairs: ROUGE-L of its greedy answers, and the probability of the sets' answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.metric import Metric
from vgid_core.evaluation.rouge import rouge_l
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import generate
from vgid_core.scoring.scorer import ScoredAnswer, Scorer


def generate_answers(base: BaseModel, pairs: PairSet, config: EvaluationConfig) -> list[str]:
    """The texts of greedy answers to all pairs by the model's own `generate`."""
    generated: list[list[int]] = []
    for start in range(0, len(pairs), config.batch_size):
        generated += generate(base, pairs.pairs[start : start + config.batch_size], config.max_new_tokens)
    return base.encoder.decode(generated)


def answer_probabilities(scored: Sequence[ScoredAnswer]) -> list[float]:
    """exp(mean log p) of each pair's own answer: its length-normalised probability."""
    return [float(answer.log_probabilities.mean().exp()) for answer in scored]


def evaluate(
    base: BaseModel,
    scorer: Scorer,
    sets: list[PairSet],
    config: EvaluationConfig,
    on_progress: Callable[[float], None] | None = None,
) -> list[Metric]:
    """Both metrics on an even sample of each set. on_progress: called with the share of pairs done, 0 to 1."""
    samples = [items.sample(config.max_pairs) for items in sets]
    total, done, metrics = sum(map(len, samples)), 0, []
    for items in samples:
        scored = scorer.score_answers(items.pairs, config)
        generated = base.encoder.decode([answer.generated_ids for answer in scored])
        score = rouge_l(generated, [pair.answer for pair in items])
        probabilities = answer_probabilities(scored)
        metrics.append(Metric(items.name, "rouge_l", score, len(items)))
        metrics.append(Metric(items.name, "answer_probability", sum(probabilities) / len(items), len(items)))
        done += len(items)
        if on_progress is not None:
            on_progress(done / total)
    return metrics
