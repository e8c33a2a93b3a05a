"""The comparison itself: the references, then trials for all, then each one's choice with every seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from compare import measure
from compare.contenders import Contender
from compare.plan import ComparisonData, ComparisonPlan, Part, Setting
from compare.record import Record, Row, Terms
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

_TUNING = "tuning."  # before the base's figures on the pairs by which settings are chosen


@dataclass(frozen=True)
class Moment:
    """How far a comparison is: `done` of `total` models measured, and `share` (0 to 1) of the training of `what`."""

    what: str
    done: int
    total: int
    share: float = 0.0


Watch = Callable[[Moment], None]


def terms_of(plan: ComparisonPlan, data: ComparisonData, model: str, twin: str | None) -> Terms:
    """What the rows of this comparison hold for. A hub's models are downloaded for it.

    Raises ModelNotSupported before that, ModelNotLoadable for a model that isn't there, and OSError for weights that
    can't be read.
    """
    for source in [model] if twin is None else [model, twin]:
        try:
            supported_encoder(source, plan.config.lora.scope)
        except (OSError, ValueError, KeyError) as error:
            raise not_loadable(source, error) from error
    return Terms(
        data=data.digests,
        config=plan.config,
        attacks=plan.attacks,
        tuning_seed=plan.tuning_seed,
        model=digest_of(model),
        twin=None if twin is None else digest_of(twin),
    )


def about(plan: ComparisonPlan) -> dict[str, Any]:
    """What else the record says: budget and seeds, machine and versions."""
    return {
        "budget": plan.budget.model_dump(mode="json"),
        "seeds": list(plan.seeds),
        "hardware": hardware(choose_device(plan.config.device)),
        "versions": versions(),
    }


def compare(
    plan: ComparisonPlan, data: ComparisonData, model: str, twin: str | None, record: Record, watch: Watch
) -> None:
    """Fills `record` with every row that it lacks. `model` and `twin` are local folders or hub ids.

    A method that fails costs its own rows alone, which then say why; the next comparison that goes on with the record
    tries them again. Raises UnlearnError when the base or the twin itself can't be measured.
    """
    record.keep_only(lambda row: _is_current(row, plan))
    _Race(plan, data, model, twin, record, watch).run()


def chosen(record: Record, name: str) -> Setting | None:
    """The setting of the best trial, the first where several are; None where every trial failed."""
    trials = [row for row in record.of(name, "trial") if row.error is None]
    best = max(trials, key=lambda row: row.scores["tuning"], default=None)
    return None if best is None else best.setting


class _Race:
    def __init__(
        self, plan: ComparisonPlan, data: ComparisonData, model: str, twin: str | None, record: Record, watch: Watch
    ) -> None:
        self._plan, self._data, self._record, self._watch = plan, data, record, watch
        self._model, self._twin = model, twin
        trained = sum(contender.trained for contender in plan.contenders)
        trials = trained * len(plan.budget.settings)
        self._total = 1 + (twin is not None) + trials + len(plan.contenders) * len(plan.seeds)
        self._done = 0

    def run(self) -> None:
        """Fills the record, in an order in which a comparison that is cut short leaves all contenders equally far."""
        self._references()
        for contender in self._plan.contenders:
            if contender.trained:
                for setting in self._plan.budget.settings:
                    self._row(contender, "trial", setting, self._plan.tuning_seed)
        for seed in self._plan.seeds:
            for contender in self._plan.contenders:
                best = chosen(self._record, contender.name)
                if best is not None or not contender.trained:
                    self._row(contender, "run", best, seed)
        self._watch(Moment("done", self._total, self._total))

    def _references(self) -> None:
        """The base and the twin as they are, each scored by the other's figures."""
        sources = {"base": self._model} | ({} if self._twin is None else {"twin": self._twin})
        rows = {name: self._reference(name, source) for name, source in sources.items()}
        self._before = rows["base"].figures
        self._twin_figures = rows["twin"].figures if "twin" in rows else None
        for row in rows.values():
            if self._record.found(row) is None:
                scores = self._scores(row.figures, self._data.reported, "")
                self._record.add(row.model_copy(update={"scores": scores}))

    def _reference(self, name: str, source: str) -> Row:
        row = Row(name=name, stage="reference")
        self._tell(name)
        found = self._record.found(row)
        if found is None:
            base, scorer = self._load(source, self._plan.config)
            evaluation = self._plan.config.evaluation
            tuning = measure.answers(base, scorer, self._data.tuning, evaluation)
            figures = {f"{_TUNING}{key}": value for key, value in tuning.items()}
            figures |= measure.answers(base, scorer, self._data.reported, evaluation)
            figures |= measure.attacked(base, scorer, self._data, self._plan.attacks, self._plan.seeds[0])
            found = row.model_copy(update={"figures": figures, "scorer": scorer.name})
        self._done += 1
        return found

    def _row(self, contender: Contender, stage: Any, setting: Setting | None, seed: int) -> None:
        row = Row(name=contender.name, stage=stage, method=contender.method, setting=setting, seed=seed)
        what = f"{contender.name}{'' if setting is None else f' ({setting})'}, seed {seed}"
        self._tell(what)
        if self._record.found(row) is None:
            try:
                found = self._measured(contender, row, what)
            except Exception as error:  # one contender's failure is a row, not the end of the others
                log.warning("%s failed: %s", what, type(error).__name__)
                found = {"error": _reason(error)}
            self._record.add(row.model_copy(update=found))
        self._done += 1

    def _measured(self, contender: Contender, row: Row, what: str) -> dict[str, Any]:
        config = self._plan.config_for(contender, row.setting, row.seed or 0)
        base, scorer = self._load(self._model, config)
        trained: dict[str, Any] = {"scorer": scorer.name}
        view: measure.View = unchanged
        if contender.trained:
            trained = self._train(base, config, what)
        elif isinstance(contender.method, Vgid):
            view = measure.in_context(contender.method, config.seed)
        part = self._data.tuning if row.stage == "trial" else self._data.reported
        figures = measure.answers(base, scorer, part, config.evaluation, view)
        if row.stage == "run":
            figures |= measure.attacked(base, scorer, self._data, self._plan.attacks, config.seed, view)
        scores = self._scores(figures, part, _TUNING if row.stage == "trial" else "")
        return {"figures": figures, "scores": scores, **trained}

    def _scores(self, figures: measure.Figures, part: Part, prefix: str) -> measure.Figures:
        """Forgetting, utility beside the base's figures of the same part, tuning's score of both, and robustness."""
        before = {key.removeprefix(prefix): value for key, value in self._before.items() if key.startswith(prefix)}
        forgetting, utility = measure.forgetting(figures, part), measure.utility(figures, before, part)
        scores = {"forgetting": forgetting, "utility": utility, "tuning": forgetting - (1 - utility)}
        return scores | measure.robust_scores(figures, self._twin_figures)

    def _train(self, base: BaseModel, config: UnlearnConfig, what: str) -> dict[str, Any]:
        retain = self._data.retain.without_images_of(self._data.forget)
        steps = config.training.steps_for(len(self._data.forget))

        def stepped(step: int, _loss: StepLoss) -> None:
            self._tell(what, step / steps)

        started = time.perf_counter()
        distilled = distil(base, self._data.forget, retain, config, stepped)
        seconds = time.perf_counter() - started
        require_trained(distilled.student)
        return {"seconds": seconds, "scorer": distilled.scorer}

    def _load(self, source: str, config: UnlearnConfig) -> tuple[BaseModel, Scorer]:
        base = load_base(source, config)
        base.encoder.require_usable(*self._data.sets, settings=config.method.texts)
        return base, choose_scorer(base, probe_pairs([self._data.forget, self._data.retain]), config.lora)

    def _tell(self, what: str, share: float = 0.0) -> None:
        self._watch(Moment(what, self._done, self._total, share))


def _is_current(row: Row, plan: ComparisonPlan) -> bool:
    """Whether its contender's settings and the budget are still the row's; a failed row is tried again."""
    if row.error is not None:
        return False
    if row.stage == "reference":
        return True
    contender = plan.contender(row.name)
    in_budget = row.stage != "trial" or row.setting in plan.budget.settings
    return contender is not None and contender.method == row.method and in_budget


def _reason(error: Exception) -> str:
    """What a row says of a failure: our own errors hold no personal data, of others the kind alone is told."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    told = isinstance(error, UnlearnError | DataError)
    return f"{type(error).__name__}: {error}" if told else type(error).__name__
