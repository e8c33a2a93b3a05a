"""Measured behaviour of a model on a set: what it says by itself (ROUGE-L) and how likely it finds the old answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from rouge_score.rouge_scorer import RougeScorer

from vgid_core.base_model import BaseModel
from vgid_core.config import EvaluationConfig
from vgid_core.data import Pair, PairSet
from vgid_core.paths import AnswerPath

MetricName = Literal["rouge_l", "answer_probability"]


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


@torch.inference_mode()
def generate_answers(base: BaseModel, pairs: PairSet, config: EvaluationConfig) -> list[str]:
    """What the model (with its adapter, if it carries one) says to each pair, greedily, without control tokens."""
    answers: list[str] = []
    for chunk in _chunks(pairs, config.batch_size):
        inputs = base.encoder.prompts([p.image.decode() for p in chunk], [p.question for p in chunk])
        width = inputs["input_ids"].shape[1]
        output = base.model.generate(**inputs, max_new_tokens=config.max_new_tokens, do_sample=False)
        answers += base.encoder.decode(output[:, width:])
    return answers


@torch.no_grad()
def answer_probabilities(path: AnswerPath, pairs: PairSet, config: EvaluationConfig) -> list[float]:
    """exp(mean log p) of each pair's own answer."""
    values: list[float] = []
    for chunk in _chunks(pairs, config.batch_size):
        scores = path.log_probabilities(chunk)
        answers = torch.split(scores, [path.answer_length(pair.answer) for pair in chunk])
        values += [float(answer.mean().exp()) for answer in answers]
    return values


def rouge_l(said: list[str], expected: list[str]) -> float:
    """Mean ROUGE-L F1 in [0, 1] of `said` against `expected`, pair by pair, without stemming."""
    scores = [_scorer().score(right, left)["rougeL"].fmeasure for left, right in zip(said, expected, strict=True)]
    return float(sum(scores) / len(scores))


def evaluate(
    base: BaseModel,
    path: AnswerPath,
    sets: list[PairSet],
    config: EvaluationConfig,
    on_share: Callable[[float], None] | None = None,
) -> list[Metric]:
    """Both metrics on an even sample of each set. `on_share` hears which share (0 to 1) of the pairs is done."""
    samples = [items.sample(config.max_pairs) for items in sets]
    total, done, metrics = sum(map(len, samples)), 0, []
    for items in samples:
        said = generate_answers(base, items, config)
        score = rouge_l(said, [pair.answer for pair in items])
        likelihood = answer_probabilities(path, items, config)
        metrics.append(Metric(items.name, "rouge_l", score, len(items)))
        metrics.append(Metric(items.name, "answer_probability", sum(likelihood) / len(items), len(items)))
        done += len(items)
        if on_share is not None:
            on_share(done / total)
    return metrics


@cache
def _scorer() -> RougeScorer:
    """One for all: each new one logs a line."""
    return RougeScorer(["rougeL"], use_stemmer=False)


def _chunks(pairs: PairSet, size: int) -> Iterator[tuple[Pair, ...]]:
    for start in range(0, len(pairs), size):
        yield pairs.pairs[start : start + size]
