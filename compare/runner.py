"""Runs a comparison: references, then tuning trials, then each contender's chosen setting with every seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from compare import measure
from compare.contenders import Contender
from compare.plan import ComparisonData, ComparisonPlan, EvalSplit, Setting
from compare.record import Conditions, Record, Row
from vgid_core.artifact import hardware, versions
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import Vgid
from vgid_core.data.pairs import DataError
from vgid_core.errors import UnlearnError
from vgid_core.evaluation.attacks import unchanged
from vgid_core.lora.attach import require_trained
from vgid_core.models.base import BaseModel
from vgid_core.models.load import choose_device, digest_of, load_base
from vgid_core.models.load_errors import not_loadable
from vgid_core.models.support import supported_encoder
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import StepLoss, distil

log = logging.getLogger(__name__)

_TUNING = "tuning."  # prefix of the base's figures on the tuning split


@dataclass(frozen=True)
class ComparisonProgress:
    """Progress of a comparison: `done` of `total` models are measured. share: of `what`'s training, 0 to 1."""

    what: str
    done: int
    total: int
    share: float = 0.0


OnProgress = Callable[[ComparisonProgress], None]


def conditions_of(plan: ComparisonPlan, data: ComparisonData, model: str, reference_model: str | None) -> Conditions:
    """The conditions of a comparison's rows, with digests of data and models. Downloads models from the hub.

    Raises ModelNotSupported before any weights are downloaded, ModelNotLoadable for a missing model, and OSError for
    weights that can't be read.
    """
    for source in [model] if reference_model is None else [model, reference_model]:
        try:
            supported_encoder(source, plan.config.lora.scope)
        except (OSError, ValueError, KeyError) as error:
            raise not_loadable(source, error) from error
    return Conditions(
        data=data.digests,
        config=plan.config,
        attacks=plan.attacks,
        tuning_seed=plan.tuning_seed,
        model=digest_of(model),
        reference_model=None if reference_model is None else digest_of(reference_model),
    )


def environment(plan: ComparisonPlan) -> dict[str, Any]:
    """Budget, seeds, hardware and versions, which a record notes and doesn't compare."""
    return {
        "budget": plan.budget.model_dump(mode="json"),
        "seeds": list(plan.seeds),
        "hardware": hardware(choose_device(plan.config.device)),
        "versions": versions(),
    }


def compare(
    plan: ComparisonPlan,
    data: ComparisonData,
    model: str,
    reference_model: str | None,
    record: Record,
    on_progress: OnProgress,
) -> None:
    """Fills `record` with all missing rows. model, reference_model: local folders or hub ids.

    If a run fails, its row holds the error and the comparison continues; a resumed comparison tries it again. Raises
    UnlearnError if the base or the reference model can't be measured.
    """
    record.keep_only(lambda row: _is_current(row, plan))
    _Comparison(plan, data, model, reference_model, record, on_progress).run()


def chosen_setting(record: Record, name: str) -> Setting | None:
    """The setting of the best trial, the first of equals; None if all trials failed."""
    trials = [row for row in record.of(name, "trial") if row.error is None]
    best = max(trials, key=lambda row: row.scores["tuning"], default=None)
    return None if best is None else best.setting


class _Comparison:
    def __init__(
        self,
        plan: ComparisonPlan,
        data: ComparisonData,
        model: str,
        reference_model: str | None,
        record: Record,
        on_progress: OnProgress,
    ) -> None:
        self._plan, self._data, self._record, self._on_progress = plan, data, record, on_progress
        self._model, self._reference_model = model, reference_model
        trained = sum(contender.trained for contender in plan.contenders)
        trials = trained * len(plan.budget.settings)
        self._total = 1 + (reference_model is not None) + trials + len(plan.contenders) * len(plan.seeds)
        self._done = 0

    def run(self) -> None:
        """Fills the record. Seeds are the outer loop: an interrupted comparison has equally many for each contender."""
        self._measure_references()
        for contender in self._plan.contenders:
            if contender.trained:
                for setting in self._plan.budget.settings:
                    self._add_row(contender, "trial", setting, self._plan.tuning_seed)
        for seed in self._plan.seeds:
            for contender in self._plan.contenders:
                best = chosen_setting(self._record, contender.name)
                if best is not None or not contender.trained:
                    self._add_row(contender, "run", best, seed)
        self._on_progress(ComparisonProgress("done", self._total, self._total))

    def _measure_references(self) -> None:
        """Measures the base and the reference model. Their scores need the figures of both."""
        sources = {"base": self._model} | (
            {} if self._reference_model is None else {"reference_model": self._reference_model}
        )
        rows = {name: self._reference(name, source) for name, source in sources.items()}
        self._before = rows["base"].figures
        self._reference_model_figures = rows["reference_model"].figures if "reference_model" in rows else None
        for row in rows.values():
            if self._record.found(row) is None:
                scores = self._scores(row.figures, self._data.reported, "")
                self._record.add(row.model_copy(update={"scores": scores}))

    def _reference(self, name: str, source: str) -> Row:
        row = Row(name=name, stage="reference")
        self._report(name)
        found = self._record.found(row)
        if found is None:
            base, scorer = self._load(source, self._plan.config)
            evaluation = self._plan.config.evaluation
            tuning = measure.evaluate_split(base, scorer, self._data.tuning, evaluation)
            figures = {f"{_TUNING}{key}": value for key, value in tuning.items()}
            figures |= measure.evaluate_split(base, scorer, self._data.reported, evaluation)
            figures |= measure.attack(base, scorer, self._data, self._plan.attacks, self._plan.seeds[0])
            found = row.model_copy(update={"figures": figures, "scorer": scorer.name})
        self._done += 1
        return found

    def _add_row(self, contender: Contender, stage: Any, setting: Setting | None, seed: int) -> None:
        """Adds the row of one run to the record unless it is there."""
        row = Row(name=contender.name, stage=stage, method=contender.method, setting=setting, seed=seed)
        what = f"{contender.name}{'' if setting is None else f' ({setting})'}, seed {seed}"
        self._report(what)
        if self._record.found(row) is None:
            try:
                found = self._measure(contender, row, what)
            except Exception as error:  # one contender's failure must not end the comparison
                log.warning("%s failed: %s", what, type(error).__name__)
                found = {"error": _reason(error)}
            self._record.add(row.model_copy(update=found))
        self._done += 1

    def _measure(self, contender: Contender, row: Row, what: str) -> dict[str, Any]:
        """Trains and measures a contender; returns the row's fields."""
        config = self._plan.config_for(contender, row.setting, row.seed or 0)
        base, scorer = self._load(self._model, config)
        trained: dict[str, Any] = {"scorer": scorer.name}
        transform: measure.PairTransform = unchanged
        if contender.trained:
            trained = self._train(base, config, what)
        elif isinstance(contender.method, Vgid):
            transform = measure.in_context(contender.method, config.seed)
        split = self._data.tuning if row.stage == "trial" else self._data.reported
        figures = measure.evaluate_split(base, scorer, split, config.evaluation, transform)
        if row.stage == "run":
            figures |= measure.attack(base, scorer, self._data, self._plan.attacks, config.seed, transform)
        scores = self._scores(figures, split, _TUNING if row.stage == "trial" else "")
        return {"figures": figures, "scores": scores, **trained}

    def _scores(self, figures: measure.Figures, split: EvalSplit, prefix: str) -> measure.Figures:
        """Forgetting, utility, the tuning score, and robustness. prefix: of the base's figures on the same split."""
        before = {key.removeprefix(prefix): value for key, value in self._before.items() if key.startswith(prefix)}
        forgetting, utility = measure.forgetting(figures, split), measure.utility(figures, before, split)
        scores = {"forgetting": forgetting, "utility": utility, "tuning": forgetting - (1 - utility)}
        return scores | measure.robust_scores(figures, self._reference_model_figures)

    def _train(self, base: BaseModel, config: UnlearnConfig, what: str) -> dict[str, Any]:
        retain = self._data.retain.without_images_of(self._data.forget)
        steps = config.training.steps_for(len(self._data.forget))

        def on_step(step: int, _loss: StepLoss) -> None:
            self._report(what, step / steps)

        started = time.perf_counter()
        distilled = distil(base, self._data.forget, retain, config, on_step)
        seconds = time.perf_counter() - started
        require_trained(distilled.student)
        return {"seconds": seconds, "scorer": distilled.scorer}

    def _load(self, source: str, config: UnlearnConfig) -> tuple[BaseModel, Scorer]:
        base = load_base(source, config)
        base.encoder.require_usable(*self._data.sets, settings=config.method.texts)
        return base, choose_scorer(base, probe_pairs([self._data.forget, self._data.retain]), config.lora)

    def _report(self, what: str, share: float = 0.0) -> None:
        self._on_progress(ComparisonProgress(what, self._done, self._total, share))


def _is_current(row: Row, plan: ComparisonPlan) -> bool:
    """Whether a row still matches the plan's settings and budget. False for a failed row, which is tried again."""
    if row.error is not None:
        return False
    if row.stage == "reference":
        return True
    contender = plan.contender(row.name)
    in_budget = row.stage != "trial" or row.setting in plan.budget.settings
    return contender is not None and contender.method == row.method and in_budget


def _reason(error: Exception) -> str:
    """The error of a failed row: our errors' messages, which hold no personal data, and other errors' types alone."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    is_ours = isinstance(error, UnlearnError | DataError)
    return f"{type(error).__name__}: {error}" if is_ours else type(error).__name__
