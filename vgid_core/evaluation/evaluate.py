"""Answers of a model to sets of pairs, and their metrics: ROUGE-L, and the probability of the sets' own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import PairSet
from vgid_core.data.subjects import Subjects
from vgid_core.evaluation.measures.rouge import rouge_l_each
from vgid_core.evaluation.metric import Metric
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import generate
from vgid_core.scoring.scorer import ScoredAnswer, Scorer

Value = TypeVar("Value")


@dataclass(frozen=True)
class SetAnswers:
    """What a model says of each pair of a set.

    texts: greedy answers. probability: that of each pair's own answer, see `answer_probabilities`. uncounted: indices
    of pairs about people who are forgotten: no figure counts what is said of them.
    """

    pairs: PairSet = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    rouge_l: Sequence[float]
    probability: Sequence[float]
    uncounted: frozenset[int] = frozenset()

    @property
    def metrics(self) -> list[Metric]:
        """The means over the pairs that count; their number is that of all, whoever else is forgotten."""
        name, count = self.pairs.name, len(self.pairs)
        return [
            Metric(name, "rouge_l", fmean(self.filled(self.rouge_l)), count),
            Metric(name, "answer_probability", fmean(self.filled(self.probability)), count),
        ]

    def filled(self, values: Sequence[float]) -> list[float]:
        """One value a pair, those that don't count replaced by the mean of the others; as they are, where none counts.

        So a figure is one of those that count, over as many pairs as the set has.
        """
        counted = [value for index, value in enumerate(values) if index not in self.uncounted]
        if not self.uncounted or not counted:
            return list(values)
        mean = fmean(counted)
        return [mean if index in self.uncounted else value for index, value in enumerate(values)]

    def without(self, withheld: Subjects, before: SetAnswers) -> SetAnswers:
        """The same with what is said of these people uncounted, and as it was before.

        before: another model's answers to the same pairs.
        """
        indices = frozenset(index for index, pair in enumerate(self.pairs) if withheld.are_in(pair))
        if not indices:
            return self

        def kept(own: Sequence[Value], was: Sequence[Value]) -> list[Value]:
            return [was[index] if index in indices else value for index, value in enumerate(own)]

        return SetAnswers(
            self.pairs,
            kept(self.texts, before.texts),
            kept(self.rouge_l, before.rouge_l),
            kept(self.probability, before.probability),
            indices,
        )


def generate_answers(base: BaseModel, pairs: PairSet, config: EvaluationConfig) -> list[str]:
    """The texts of greedy answers to all pairs by the model's own `generate`."""
    generated: list[list[int]] = []
    for start in range(0, len(pairs), config.batch_size):
        generated += generate(base, pairs.pairs[start : start + config.batch_size], config.max_new_tokens)
    return base.encoder.decode(generated)


def answer_probabilities(scored: Sequence[ScoredAnswer]) -> list[float]:
    """exp(mean log p) of each pair's own answer: its length-normalised probability."""
    return [float(answer.log_probabilities.mean().exp()) for answer in scored]


def answer_sets(
    base: BaseModel,
    scorer: Scorer,
    sets: Sequence[PairSet],
    config: EvaluationConfig,
    on_progress: Callable[[float], None] | None = None,
) -> list[SetAnswers]:
    """Answers an even sample of each set. on_progress: called with the share of pairs done, 0 to 1."""
    samples = [items.sample(config.max_pairs) for items in sets]
    total, done, found = sum(map(len, samples)), 0, []
    for items in samples:
        scored = scorer.score_answers(items.pairs, config)
        texts = base.encoder.decode([answer.generated_ids for answer in scored])
        rouge = rouge_l_each(texts, [pair.answer for pair in items])
        found.append(SetAnswers(items, texts, rouge, answer_probabilities(scored)))
        done += len(items)
        if on_progress is not None:
            on_progress(done / total)
    return found


def evaluate(
    base: BaseModel,
    scorer: Scorer,
    sets: Sequence[PairSet],
    config: EvaluationConfig,
    on_progress: Callable[[float], None] | None = None,
) -> list[Metric]:
    """Both metrics on an even sample of each set, as `answer_sets` answers them."""
    answered = answer_sets(base, scorer, sets, config, on_progress)
    return [metric for answers in answered for metric in answers.metrics]
