"""Measures one model, and computes its scores: forgetting, utility and robustness, each in [0, 1]."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from compare.plan import ComparisonData, EvalSplit
from vgid_core.config import AttackPlan, EvaluationConfig
from vgid_core.config.methods import Vgid
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.evaluation.attacks import run_attacks, unchanged
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.measures.membership import MEMBERSHIP_ATTACKS
from vgid_core.methods.perturb import perturb
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

Figures = dict[str, float]
PairTransform = Callable[[Pair], Pair]


def in_context(method: Vgid, seed: int) -> PairTransform:
    """The transform of in-context unlearning: the image and question of VGID's teacher, with noise drawn by `seed`."""
    noise = torch.Generator().manual_seed(seed)

    def transform(pair: Pair) -> Pair:
        image = EncodedImage.of(perturb(pair.image.decode(), method.perturbation, noise))
        return replace(pair, image=image, question=method.instructed(pair.question))

    return transform


def evaluate_split(
    base: BaseModel, scorer: Scorer, split: EvalSplit, config: EvaluationConfig, transform: PairTransform = unchanged
) -> Figures:
    """ROUGE-L and answer probability of each set, as `rouge_l.<set>` and `answer_probability.<set>`."""
    samples = [items.sample(config.max_pairs) for items in (*split.forget, *split.retain)]
    sets = [PairSet(items.name, tuple(map(transform, items))) for items in samples]
    return {f"{metric.name}.{metric.split}": metric.value for metric in evaluate(base, scorer, sets, config)}


def attack(
    base: BaseModel,
    scorer: Scorer,
    data: ComparisonData,
    plan: AttackPlan,
    seed: int,
    transform: PairTransform = unchanged,
) -> Figures:
    """Runs all attacks on a comparison's data, as `run_attacks` does."""
    return run_attacks(base, scorer, data.reported.forget[0], data.unseen, data.facts, plan, seed, transform)


def forgetting(figures: Mapping[str, float], split: EvalSplit) -> float:
    """1 minus the mean ROUGE-L against the old answers, over the forget set and its probes."""
    return 1 - statistics.fmean(figures[f"rouge_l.{items.name}"] for items in split.forget)


def utility(figures: Mapping[str, float], before: Mapping[str, float], split: EvalSplit) -> float:
    """The mean share of the base's ROUGE-L that is left, over the retain set and the utility sets.

    Shares are capped at 1. A set on which the base has ROUGE-L 0 doesn't count.
    """
    names = [f"rouge_l.{items.name}" for items in split.retain]
    shares = [min(1.0, figures[name] / before[name]) for name in names if before[name] > 0]
    return statistics.fmean(shares) if shares else 1.0


def robust_scores(figures: Mapping[str, float], reference_model: Mapping[str, float] | None) -> Figures:
    """`membership`, and `robustness`: the mean of membership, prefill and relearning scores. Empty without attacks.

    membership: clip(1 - 2 |AUC - chance|), mean of the five attacks. chance is 0.5, or the AUC of the reference model
    if there is one: an AUC below the reference model's gives the model away, too. prefill, relearning: 1 minus the
    share of facts that came back.
    """
    scores: Figures = {}
    names = [f"membership.{name}" for name in MEMBERSHIP_ATTACKS if f"membership.{name}" in figures]
    if names:
        chance = dict.fromkeys(names, 0.5) | {
            name: reference_model[name] for name in names if reference_model and name in reference_model
        }
        scores["membership"] = statistics.fmean(max(0.0, 1 - 2 * abs(figures[name] - chance[name])) for name in names)
    parts = [*scores.values(), *(1 - figures[name] for name in ("prefill", "relearned") if name in figures)]
    if parts:
        scores["robustness"] = statistics.fmean(parts)
    return scores
