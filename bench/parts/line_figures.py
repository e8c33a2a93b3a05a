"""What a bench measures of a model after each release of a line."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from bench.parts.audited import Case, auditor_of, case_of
from bench.parts.demo_models import SHIPPED
from bench.parts.reference_models import FORGET_SETS
from local.demo.data import unseen
from vgid_core import PairSet, UnlearnConfig
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.evidence import Measured
from vgid_core.evaluation.measures.membership import membership_aucs
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs

_KEPT = ("retain_check", "visual", "neighbours")
_MEASURED = ("forget", "unseen")


def figures_of(base: BaseModel, case: Case, config: UnlearnConfig) -> dict[str, Any]:
    """What is measured of the model after a release about those who are forgotten so far."""
    auditor = auditor_of(case, config, _MEASURED)
    after = auditor.after(base, choose_scorer(base, probe_pairs(auditor.measured), config.lora), Measured())
    figures = {(figure.name, figure.of): figure.value for figure in after.figures}
    means = {metric.split: metric.value for metric in after.metrics if metric.name == "rouge_l"}
    by_person = {
        answers.pairs.name: _by_person(answers.pairs, answers.rouge_l)
        for answers in after.answers
        if answers.pairs.name in ("forget", "held_out_photos")
    }
    return {
        "generated": means["forget"],
        "generated_worst": max(by_person["forget"].values()),
        "generated_unseen": means["held_out_photos"],
        "generated_unseen_worst": max(by_person["held_out_photos"].values()),
        "misattributed": figures["misattributed", "forget"],
        "misattributed_unseen": figures["misattributed", "held_out_photos"],
        "prefilled": figures["prefill.up_to_fact", "forget"],
        "extraction": figures["extraction_strength", "forget"],
        **{
            place: figures[f"ranking.first_token.{place}", "forget"]
            for place in ("first", "first_five", "last", "last_five")
        },
        "below": figures["ranking.first_token.below", "forget"],
        "membership": figures["membership.loss", "forget"],
    }


def kept_of(base: BaseModel, everybody: Case, config: UnlearnConfig) -> dict[str, float]:
    """ROUGE-L about whoever no request of the whole line is about."""
    sets = [items for items in everybody.measured if items.name in _KEPT]
    metrics = evaluate(base, choose_scorer(base, probe_pairs(sets), config.lora), sets, config.evaluation)
    return {metric.split: metric.value for metric in metrics if metric.name == "rouge_l"}


def from_references(base: BaseModel, forgotten: Sequence[int], config: UnlearnConfig) -> dict[str, float]:
    """How far membership by the loss lies from the reference models' mean, of each group that they have never met."""
    found = {}
    for number, group in enumerate(FORGET_SETS):
        if set(group) <= set(forgotten):
            reference_models = [
                _membership(load_base(str(each), config), group, config) for each in SHIPPED.reference_models_of(group)
            ]
            found[f"from_references.{number}"] = abs(_membership(base, group, config) - fmean(reference_models))
    return found | ({"from_references.worst": max(found.values())} if found else {})


def _membership(base: BaseModel, group: Sequence[int], config: UnlearnConfig) -> float:
    members = case_of(group, SHIPPED.neighbours, SHIPPED.census).forget.sample(100)
    others = unseen(SHIPPED.census).pairs
    scorer = choose_scorer(base, probe_pairs([members]), config.lora)
    return membership_aucs(base, scorer, members.pairs, others)["loss"]


def _by_person(pairs: PairSet, values: Sequence[float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for pair, value in zip(pairs, values, strict=True):
        found.setdefault(str(pair.person), []).append(value)
    return {person: fmean(each) for person, each in found.items()}
