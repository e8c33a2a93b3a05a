"""The figures of one model, with or without an adapter: metrics of sets, and what attacks get out of it."""

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

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Questions:
    """What is asked: sets to measure, the forget set first, and for attacks never-seen pairs and facts (or none)."""

    sets: list[PairSet] = field(repr=False)
    never_seen: PairSet | None = field(default=None, repr=False)
    facts: Sequence[Fact] = field(default=(), repr=False)


@dataclass(frozen=True)
class Column:
    """One model's figures. `attacks`: by name, each in [0, 1]; empty where none was made."""

    digest: str
    metrics: list[Metric]
    attacks: dict[str, float]

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return {"digest": self.digest, "metrics": [asdict(metric) for metric in self.metrics], "attacks": self.attacks}


def columns(
    model: str, adapter: Path | None, twin: str | None, asked: Questions, config: UnlearnConfig, tell: Tell, warn: Tell
) -> dict[str, Column]:
    """The base, the adapter on it and the twin, as far as they are given, measured one after another.

    Raises UnlearnError and DataError as a run does.
    """
    told = "the accelerator ran out of memory; try a smaller evaluation.batch_size"
    return within_memory(lambda: _columns(model, adapter, twin, asked, config, tell, warn), told)


def _columns(
    model: str, adapter: Path | None, twin: str | None, asked: Questions, config: UnlearnConfig, tell: Tell, warn: Tell
) -> dict[str, Column]:
    tell("loading")
    base = _ready(model, asked, config)
    found = {"base": _measured(base, LoraSettings(), asked, config, lambda doing: tell(f"base: {doing}"))}
    if adapter is not None:
        settings = load_adapter_with_warning(base, adapter, warn)
        found["adapter"] = _measured(base, settings, asked, config, lambda doing: tell(f"adapter: {doing}"))
    del base  # before the twin takes its place on the device
    if twin is not None:
        tell("loading the twin")
        other = _ready(twin, asked, config)
        found["twin"] = _measured(other, LoraSettings(), asked, config, lambda doing: tell(f"twin: {doing}"))
    return found


def _ready(model: str, asked: Questions, config: UnlearnConfig) -> BaseModel:
    base = load_base(model, config)
    extra = [] if asked.never_seen is None else [asked.never_seen]
    facts = PairSet("facts", tuple(fact.pair for fact in asked.facts))
    base.encoder.require_usable(*asked.sets, *extra, facts)
    return base


def _measured(base: BaseModel, adapter: LoraSettings, asked: Questions, config: UnlearnConfig, tell: Tell) -> Column:
    scorer = choose_scorer(base, probe_pairs(asked.sets), adapter)
    tell("0 %")
    metrics = evaluate(base, scorer, asked.sets, config.evaluation, lambda share: tell(f"{share:.0%}"))
    attacks: dict[str, float] = {}
    if asked.facts:
        tell("attacks")
        plan = AttackPlan(pairs=min(max(config.evaluation.max_pairs, 2), 10_000))
        attacks = run_attacks(base, scorer, asked.sets[0], asked.never_seen, asked.facts, plan, config.seed)
    return Column(base.digest, metrics, attacks)
