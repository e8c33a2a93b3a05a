"""Evaluates models for `vgid evaluate`: metrics on sets, and attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vgid_core.cli.loading import load_adapter_with_warning
from vgid_core.config import AttackPlan, LoraSettings, UnlearnConfig
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.attacks import run_attacks
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.metric import Metric
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.training.memory import within_memory

Say = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationSets:
    """The data of an evaluation.

    forget, others: to be measured. never_seen, facts: for attacks; without facts there are none.
    """

    forget: PairSet = field(repr=False)
    others: Sequence[PairSet] = field(repr=False)
    never_seen: PairSet | None = field(default=None, repr=False)
    facts: Sequence[Fact] = field(default=(), repr=False)

    @property
    def measured(self) -> list[PairSet]:
        """All sets that are measured, in the order of the report."""
        return [self.forget, *self.others]


@dataclass(frozen=True)
class ModelEvaluation:
    """One model's metrics. attacks: figures in [0, 1] by name; empty without attacks."""

    digest: str
    metrics: list[Metric]
    attacks: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """The evaluation in JSON types."""
        return {"digest": self.digest, "metrics": [asdict(metric) for metric in self.metrics], "attacks": self.attacks}


def evaluate_models(
    model: str,
    adapter: Path | None,
    twin: str | None,
    data: EvaluationSets,
    config: UnlearnConfig,
    show: Say,
    warn: Say,
) -> dict[str, ModelEvaluation]:
    """Evaluates the base, the adapter on it and the twin, as far as they are given, one after another.

    show: called with the current stage. warn: called with warnings. Raises UnlearnError and DataError as a run does.
    """

    def evaluated() -> dict[str, ModelEvaluation]:
        show("loading")
        base = _load(model, data, config)
        found = {"base": _evaluate(base, LoraSettings(), data, config, lambda stage: show(f"base: {stage}"))}
        if adapter is not None:
            settings = load_adapter_with_warning(base, adapter, warn)
            found["adapter"] = _evaluate(base, settings, data, config, lambda stage: show(f"adapter: {stage}"))
        del base  # frees the device for the twin
        if twin is not None:
            show("loading the twin")
            other = _load(twin, data, config)
            found["twin"] = _evaluate(other, LoraSettings(), data, config, lambda stage: show(f"twin: {stage}"))
        return found

    return within_memory(evaluated, "the accelerator ran out of memory; try a smaller evaluation.batch_size")


def _load(model: str, data: EvaluationSets, config: UnlearnConfig) -> BaseModel:
    base = load_base(model, config)
    extra = [] if data.never_seen is None else [data.never_seen]
    facts = PairSet("facts", tuple(fact.pair for fact in data.facts))
    base.encoder.require_usable(*data.measured, *extra, facts)
    return base


def _evaluate(
    base: BaseModel, adapter: LoraSettings, data: EvaluationSets, config: UnlearnConfig, show: Say
) -> ModelEvaluation:
    scorer = choose_scorer(base, probe_pairs(data.measured), adapter)
    show("0 %")
    metrics = evaluate(base, scorer, data.measured, config.evaluation, lambda share: show(f"{share:.0%}"))
    attacks: dict[str, float] = {}
    if data.facts:
        show("attacks")
        plan = AttackPlan(pairs=min(max(config.evaluation.max_pairs, 2), 10_000))
        attacks = run_attacks(base, scorer, data.forget, data.never_seen, data.facts, plan, config.seed)
    return ModelEvaluation(base.digest, metrics, attacks)
