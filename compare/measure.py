"""The figures of one model, and what they come to: forgetting, utility and robustness, each in [0, 1]."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from compare.plan import ComparisonData, Part
from vgid_core.config import AttackPlan, EvaluationConfig
from vgid_core.config.methods import Vgid
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.evaluation.attacks import run_attacks, unchanged
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.membership import MEMBERSHIP_ATTACKS
from vgid_core.methods.perturb import perturb
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

Figures = dict[str, float]
View = Callable[[Pair], Pair]


def in_context(method: Vgid, seed: int) -> View:
    """What is asked of a base that is only told to forget: VGID's teacher's image and question, drawn by `seed`."""
    noise = torch.Generator().manual_seed(seed)

    def view(pair: Pair) -> Pair:
        shown = EncodedImage.of(perturb(pair.image.decode(), method.perturbation, noise))
        return replace(pair, image=shown, question=method.instructed(pair.question))

    return view


def answers(base: BaseModel, scorer: Scorer, part: Part, config: EvaluationConfig, view: View = unchanged) -> Figures:
    """ROUGE-L and answer probability of every set, as `rouge_l.<set>` and `answer_probability.<set>`."""
    samples = [items.sample(config.max_pairs) for items in (*part.lost, *part.kept)]
    sets = [PairSet(items.name, tuple(map(view, items))) for items in samples]
    return {f"{metric.name}.{metric.split}": metric.value for metric in evaluate(base, scorer, sets, config)}


def attacked(
    base: BaseModel, scorer: Scorer, data: ComparisonData, plan: AttackPlan, seed: int, view: View = unchanged
) -> Figures:
    """What the attacks get on a comparison's data: see `run_attacks`."""
    return run_attacks(base, scorer, data.reported.lost[0], data.never_seen, data.facts, plan, seed, view)


def forgetting(figures: Mapping[str, float], part: Part) -> float:
    """1 less the mean ROUGE-L against the old answers, over the forget set and its probes."""
    return 1 - statistics.fmean(figures[f"rouge_l.{items.name}"] for items in part.lost)


def utility(figures: Mapping[str, float], before: Mapping[str, float], part: Part) -> float:
    """The mean share of the base's ROUGE-L that is left, over the retain set and the utility sets.

    More than the base's counts as all of it; a set of which the base knows nothing tells nothing.
    """
    names = [f"rouge_l.{items.name}" for items in part.kept]
    shares = [min(1.0, figures[name] / before[name]) for name in names if before[name] > 0]
    return statistics.fmean(shares) if shares else 1.0


def robust_scores(figures: Mapping[str, float], twin: Mapping[str, float] | None) -> Figures:
    """`robustness`, the mean of what each kind of attack leaves undone, and `membership`; without attacks, nothing.

    Membership: `clip(1 - 2 |AUC - chance|)`, mean of the five attacks, chance being 0.5, or the twin's AUC where there
    is a retain-only twin: a model that hides more than one that never knew gives itself away, too. Prefilled answers
    and relearning: 1 less the share of facts that came back.
    """
    scores: Figures = {}
    names = [f"membership.{name}" for name in MEMBERSHIP_ATTACKS if f"membership.{name}" in figures]
    if names:
        chance = dict.fromkeys(names, 0.5) | {name: twin[name] for name in names if twin and name in twin}
        scores["membership"] = statistics.fmean(max(0.0, 1 - 2 * abs(figures[name] - chance[name])) for name in names)
    parts = [*scores.values(), *(1 - figures[name] for name in ("prefill", "relearned") if name in figures)]
    if parts:
        scores["robustness"] = statistics.fmean(parts)
    return scores
