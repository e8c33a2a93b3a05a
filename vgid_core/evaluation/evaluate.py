"""Answers of a model to sets of pairs, and their metrics: ROUGE-L, and the probability of the sets' own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import PairSet
from vgid_core.data.subjects import Subjects
from vgid_core.evaluation.measures.rouge import rouge_l_each
from vgid_core.evaluation.metric import Metric
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import generate
from vgid_core.scoring.scorer import ScoredAnswer, Scorer


@dataclass(frozen=True)
class SetAnswers:
    """What a model says of each pair of a set.

    texts: greedy answers. probability: that of each pair's own answer, see `answer_probabilities`.
    """

    pairs: PairSet = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    rouge_l: Sequence[float]
    probability: Sequence[float]

    @property
    def metrics(self) -> list[Metric]:
        """The means over the pairs."""
        name, count = self.pairs.name, len(self.pairs)
        return [
            Metric(name, "rouge_l", fmean(self.rouge_l), count),
            Metric(name, "answer_probability", fmean(self.probability), count),
        ]

    def without(self, withheld: Subjects, before: SetAnswers) -> SetAnswers:
        """The same as if these people had lost what all others lose at the mean; nothing, where nobody else is left.

        So a figure is that of the others, over as many pairs as the set has, and no figure tells from another one that
        somebody is left out. before: another model's answers to the same pairs.
        """
        indices = frozenset(index for index, pair in enumerate(self.pairs) if withheld.are_in(pair))
        if not indices:
            return self

        def shifted(own: Sequence[float], was: Sequence[float]) -> list[float]:
            drops = [was[index] - value for index, value in enumerate(own) if index not in indices]
            drop = fmean(drops) if drops else 0.0
            return [was[index] - drop if index in indices else value for index, value in enumerate(own)]

        texts = [before.texts[index] if index in indices else text for index, text in enumerate(self.texts)]
        probability = shifted(self.probability, before.probability)
        return SetAnswers(self.pairs, texts, shifted(self.rouge_l, before.rouge_l), probability)


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
