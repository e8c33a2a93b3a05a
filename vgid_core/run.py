"""One run: load the base, measure it, distil, audit, train again where a target is missed, package the adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vgid_core.artifact import RunRecord, build_manifest, write_adapter, write_manifest
from vgid_core.config import UnlearnConfig
from vgid_core.config.ladder import rungs
from vgid_core.data.file_digest import file_digest
from vgid_core.errors import AdapterForOtherBase, CheckpointUnusable
from vgid_core.evaluation.evidence import Evidence, Measured
from vgid_core.evaluation.metric import Metric
from vgid_core.lora.attach import detach_adapter, require_trained
from vgid_core.lora.load import ADAPTER_WEIGHTS, is_for_other_base
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.load import HostModel, load_base, require_unchanged
from vgid_core.progress import Phase, PhaseTimer, Progress, ProgressTracker
from vgid_core.requests import (
    Refusals,
    Views,
    confirmed_names,
    measure_after,
    measure_before,
    require_usable,
    views_of,
)
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.scorer import Scorer
from vgid_core.spec import OWN, RunSets, UnlearnSpec
from vgid_core.training.checkpoints import Checkpoints, delete_checkpoint, identity
from vgid_core.training.loop import DistillResult, StepLoss, distil
from vgid_core.training.memory import within_memory

log = logging.getLogger(__name__)

Stage = Literal["before", "after"]
OnStep = Callable[[Progress], None]
OnMetrics = Callable[[Stage, list[Metric]], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class UnlearnResult:
    """The result of a run, for one of its requests.

    folder: holds adapter_config.json, adapter_model.safetensors, evidence.json, manifest.json and README.md. evidence:
    what the audits found, and the verdict; None if the settings ask for no audits. replay_sets_held: by replay set that
    was checked, whether its people are still forgotten; empty without audits. new_replay_set_held: whether the people
    of the replay set that is to be kept are forgotten by it; None without a replay set or audits. confirmed_names: the
    request's names, normalized, that are its people's by what the base says. together: the results of the run's other
    requests.
    """

    folder: Path
    metrics_before: list[Metric]
    metrics_after: list[Metric]
    steps: int
    evidence: Evidence | None
    replay_sets_held: Mapping[str, bool]
    new_replay_set_held: bool | None
    confirmed_names: frozenset[str] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)
    together: Mapping[str, UnlearnResult] = field(default_factory=dict)


def unlearn(
    spec: UnlearnSpec,
    on_step: OnStep | None = None,
    on_metrics: OnMetrics | None = None,
    base: HostModel | None = None,
    stop: Stop | None = None,
) -> UnlearnResult:
    """Unlearns `spec.forget` into a LoRA adapter and measures the model before and after.

    on_step: called with each phase and step. on_metrics: called with the own request's metrics. An exception in
    either ends the run. base: a model from `read_base`, which this run uses up; one that doesn't match the spec is
    ignored. stop: called after each step of a single-process run with a checkpoint; if true, the run saves the step and
    ends with RunStopped.

    The base model is never changed. The adapter is written to `spec.out`, its manifest last, after any older manifest
    is deleted: a manifest means that the adapter is complete. That the verdict misses a target is no error: the adapter
    is written with it. The ladder is climbed until every request passes.

    Raises UnlearnError (model, memory, divergence, untrained adapter, another run's checkpoint, nothing to forget, a
    retain set that holds the forgotten) and DataError (an unusable pair), both before anything in `spec.out` changes.
    Of a run of several, RequestsRefused names all requests that can't be run, before anything is trained.

    In a multi-process run (`accelerate launch`) all processes make the same call and share the training. The main
    process reports and writes.
    """
    distributed.init_processes(on_cpu=spec.config.device == "cpu" or not torch.cuda.is_available())
    if not distributed.is_main():
        on_step = on_metrics = None
    message = "the accelerator ran out of memory; try a smaller micro-batch or a larger device"
    return within_memory(lambda: _run(spec, on_step, on_metrics, base, stop), message)


def _run(
    spec: UnlearnSpec,
    on_step: OnStep | None,
    on_metrics: OnMetrics | None,
    read: HostModel | None,
    stop: Stop | None,
) -> UnlearnResult:
    refusals = Refusals(alone=not spec.together)
    views = views_of(spec, refusals)
    sets = views[OWN]
    configs = rungs(spec.config, len(sets.requested))
    tracker = ProgressTracker(configs[0].training.steps_for(len(sets.requested)), on_step)
    timer = PhaseTimer(tracker)

    timer.enter(Phase.loading)
    base = load_base(spec.model, spec.config, read)
    if spec.start is not None and is_for_other_base(base, spec.start):
        raise AdapterForOtherBase("The adapter to start from was made for another base than the one that is there now.")
    names = distributed.broadcast(confirmed_names(base, views, refusals))
    views = views_of(spec, Refusals(refusals.alone), names)
    sets = views[OWN]
    require_usable(base, views, spec.config, refusals)
    rung = _Rung(spec, base, views, tracker, timer, stop)
    started = rung.where_interrupted(configs)

    timer.enter(Phase.baseline)
    usable = next(iter(refusals.left(views).values()))
    scorer = choose_scorer(base, probe_pairs(usable.all), spec.config.lora)
    before = measure_before(base, scorer, views, configs[started], tracker.update, refusals)
    refusals.require_none()
    _tell(on_metrics, "before", before)

    for number in range(started, len(configs)):
        attempt = rung.climb(configs[number], before, scorer, fresh=number > started)
        _tell(on_metrics, "after", attempt.after)
        if not attempt.missed:
            break
        if number + 1 < len(configs):
            log.warning("targets missed: %s; training again", ", ".join(attempt.missed))
            detach_adapter(base)
    require_unchanged(base, spec.model)

    timer.enter(Phase.packaging)
    results = _package(base, attempt, spec, views, before, names, timer.seconds())
    if spec.checkpoint is not None and not spec.keep_checkpoint and distributed.is_main():
        delete_checkpoint(spec.checkpoint)
    return replace(results.pop(OWN), together=results)


def _tell(on_metrics: OnMetrics | None, stage: Stage, measured: Mapping[str, Measured]) -> None:
    if on_metrics is not None:
        on_metrics(stage, measured[OWN].metrics)


@dataclass(frozen=True)
class _Attempt:
    """One training and what was measured after it, by request."""

    config: UnlearnConfig
    distilled: DistillResult
    trained: Sequence[str]
    after: Mapping[str, Measured]
    evidence: Mapping[str, Evidence | None]

    @property
    def missed(self) -> list[str]:
        """The figures of any request whose targets don't hold."""
        judged = [evidence for evidence in self.evidence.values() if evidence is not None]
        return [each.figure.name for evidence in judged for each in evidence.verdict.missed]


@dataclass(frozen=True)
class _Rung:
    """Trains and measures with the settings of one rung of the ladder."""

    spec: UnlearnSpec
    base: BaseModel
    views: Views
    tracker: ProgressTracker
    timer: PhaseTimer
    stop: Stop | None

    def where_interrupted(self, configs: Sequence[UnlearnConfig]) -> int:
        """The rung whose checkpoint there is, or 0. Raises CheckpointUnusable for another run's checkpoint."""
        refused: list[CheckpointUnusable] = []
        for number, config in enumerate(configs):
            checkpoints = self._checkpoints(config)
            try:
                if checkpoints is not None:
                    checkpoints.require_own()
            except CheckpointUnusable as error:
                refused.append(error)
            else:
                return number
        raise refused[0]  # it says in what the run itself differs

    @property
    def _sets(self) -> RunSets:
        return self.views[OWN]

    def climb(self, config: UnlearnConfig, before: Mapping[str, Measured], scorer: Scorer, fresh: bool) -> _Attempt:
        """Distils, and measures the student. fresh: begins at the first step, whatever checkpoint there is."""
        self.tracker.restart(config.training.steps_for(len(self._sets.requested)))
        self.timer.enter(Phase.distilling)
        distilled = self._distil(config, self._checkpoints(config, fresh))
        trained = require_trained(distilled.student)
        self.timer.enter(Phase.evaluating)
        tell, replay_checks = self.tracker.update, self.spec.replay_checks
        after, evidence = measure_after(self.base, scorer, self.views, config, before, tell, replay_checks)
        return _Attempt(config, distilled, trained, after, evidence)

    def _distil(self, config: UnlearnConfig, checkpoints: Checkpoints | None) -> DistillResult:
        def step_done(step: int, loss: StepLoss) -> None:
            self.tracker.step_done(step, loss.forget, loss.retain, loss.gradient_norm, loss.learning_rate)

        return distil(
            self.base,
            self._sets.to_forget,
            self._sets.to_retain,
            config,
            step_done,
            checkpoints,
            unseen_faces=self._sets.photos_of("unseen_faces"),
            unlabelled=self._sets.photos_of("unlabelled"),
            start=self.spec.start,
        )

    def _checkpoints(self, config: UnlearnConfig, fresh: bool = False) -> Checkpoints | None:
        """The run's checkpoints under these settings, if it has a folder for them."""
        if self.spec.checkpoint is None:
            return None
        start = _start_digest(self.spec)
        run = identity(self.base, self._sets.digests | ({} if start is None else {"start": start}), config)
        return Checkpoints(self.spec.checkpoint, run, self.spec.checkpoint_seconds, self.stop, fresh)


def _start_digest(spec: UnlearnSpec) -> str | None:
    return None if spec.start is None else file_digest(spec.start / ADAPTER_WEIGHTS)


def _package(
    base: BaseModel,
    attempt: _Attempt,
    spec: UnlearnSpec,
    views: Views,
    before: Mapping[str, Measured],
    names: Mapping[str, Collection[str]],
    seconds: Mapping[str, float],
) -> dict[str, UnlearnResult]:
    """Writes each request's adapter, evidence and manifest, in the main process alone, and returns the results."""
    distilled = attempt.distilled
    shared = RunRecord(
        model_name=spec.model_name,
        config=attempt.config,
        data={},
        trained_modules=attempt.trained,
        scorer=distilled.scorer,
        metrics={},
        steps=distilled.steps,
        resumed_after=distilled.resumed_after,
        micro_batch_size=distilled.micro_batch_size,
        seconds=seconds,
        evidence=None,
        start=_start_digest(spec),
    )
    results = {}
    for label, sets in views.items():
        after, found = attempt.after[label], attempt.evidence[label]
        metrics = {"before": before[label].metrics, "after": after.metrics}
        own = None if found is None else found.as_json()
        record = replace(shared, data=sets.manifest_entries(private=spec.private), metrics=metrics, evidence=own)
        folder = spec.out if label == OWN else spec.together[label].out
        results[label] = UnlearnResult(
            folder,
            metrics["before"],
            metrics["after"],
            distilled.steps,
            found,
            after.rechecks.held,
            after.rechecks.new_held,
            frozenset(names[label]),
            distributed.broadcast(_write(base, distilled, record, folder)),
        )
    return results


def _write(base: BaseModel, distilled: DistillResult, record: RunRecord, folder: Path) -> dict[str, Any]:
    """Writes the adapter and its papers, and returns the manifest; nothing and {} in another than the main process."""
    if not distributed.is_main():
        return {}
    write_adapter(distilled.student, folder, record.model_name)
    manifest = build_manifest(base, record, folder)
    write_manifest(manifest, record.evidence, folder)
    return manifest
