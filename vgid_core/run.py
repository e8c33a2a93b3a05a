"""One run: load the base, measure it, distil, audit, train again where a target is missed, package the adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from vgid_core.artifact import RunRecord, build_manifest, file_digest, write_adapter, write_manifest
from vgid_core.config import UnlearnConfig
from vgid_core.config.ladder import rungs
from vgid_core.data.overlap import require_apart, require_few
from vgid_core.errors import AdapterForOtherBase, CheckpointUnusable
from vgid_core.evaluation.evidence import Auditor, Evidence, Measured
from vgid_core.evaluation.known import require_known
from vgid_core.evaluation.metric import Metric
from vgid_core.lora.attach import detach_adapter, require_trained
from vgid_core.lora.load import ADAPTER_WEIGHTS, is_for_other_base
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.load import HostModel, load_base, require_unchanged
from vgid_core.models.near_copies import near_copies
from vgid_core.progress import Phase, PhaseTimer, Progress, ProgressTracker
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.scorer import Scorer
from vgid_core.spec import RunSets, UnlearnSpec
from vgid_core.training.checkpoints import Checkpoints, delete_checkpoint, identity
from vgid_core.training.early_stop import EarlyStopping
from vgid_core.training.loop import DistillResult, StepLoss, distil
from vgid_core.training.memory import within_memory

log = logging.getLogger(__name__)

Stage = Literal["before", "after"]
OnStep = Callable[[Progress], None]
OnMetrics = Callable[[Stage, list[Metric]], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class UnlearnResult:
    """The result of a run.

    folder: holds adapter_config.json, adapter_model.safetensors, evidence.json, manifest.json and README.md.
    evidence: what the audits found, and the verdict; None if the settings ask for no audits. kits_held: by kit, whether
    its people are still forgotten; empty without audits.
    """

    folder: Path
    metrics_before: list[Metric]
    metrics_after: list[Metric]
    steps: int
    stop_reason: str
    evidence: Evidence | None
    kits_held: Mapping[str, bool]
    manifest: dict[str, Any] = field(repr=False)


def unlearn(
    spec: UnlearnSpec,
    on_step: OnStep | None = None,
    on_metrics: OnMetrics | None = None,
    base: HostModel | None = None,
    stop: Stop | None = None,
) -> UnlearnResult:
    """Unlearns `spec.forget` into a LoRA adapter and measures the model before and after.

    on_step: called with each phase and step. on_metrics: called with the metrics before and after. An exception in
    either ends the run. base: a model from `read_base`, which this run uses up; one that doesn't match the spec is
    ignored. stop: called after each step of a single-process run with a checkpoint; if true, the run saves the step and
    ends with RunStopped.

    The base model is never changed. The adapter is written to `spec.out`, its manifest last, after any older manifest
    is deleted: a manifest means that the adapter is complete. That the verdict misses a target is no error: the adapter
    is written with it. Raises UnlearnError (model, memory, divergence, untrained adapter, another run's checkpoint,
    nothing to forget, a retain set that holds the forgotten) and DataError (an unusable pair), both before anything in
    `spec.out` changes.

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
    sets = RunSets.of(spec)
    configs = rungs(spec.config, len(sets.forget))
    audited = spec.config.evaluation.audits != "none"
    tracker = ProgressTracker(configs[0].training.steps_for(len(sets.forget)), on_step)
    timer = PhaseTimer(tracker)

    timer.enter(Phase.loading)
    if audited:
        require_apart(sets.forget, sets.retain)
    base = load_base(spec.model, spec.config, read)
    if spec.start is not None and is_for_other_base(base, spec.start):
        raise AdapterForOtherBase("The adapter to start from was made for another base than the one that is there now.")
    base.encoder.require_usable(*sets.all, settings=spec.config.method.texts)
    if audited:
        photos = [pair.image for pair in sets.forget]
        copies = near_copies(base, photos, [pair.image for pair in sets.retain])
        require_few(copies, len(set(photos)), "photos")
    rung = _Rung(spec, base, sets, tracker, timer, stop)
    started = rung.where_interrupted(configs)

    timer.enter(Phase.baseline)
    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)
    auditor = Auditor(sets.audited, sets.all, configs[started], sets.kits)
    before = auditor.before(base, scorer, tracker.update)
    _tell(on_metrics, "before", before)
    require_known(before.figures)

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
    manifest = distributed.broadcast(_package(base, attempt, spec, sets, before, timer.seconds()))
    if spec.checkpoint is not None and not spec.keep_checkpoint and distributed.is_main():
        delete_checkpoint(spec.checkpoint)
    distilled = attempt.distilled
    return UnlearnResult(
        spec.out,
        before.metrics,
        attempt.after.metrics,
        distilled.steps,
        distilled.stop_reason,
        attempt.evidence,
        attempt.after.kits_held,
        manifest,
    )


def _tell(on_metrics: OnMetrics | None, stage: Stage, measured: Measured) -> None:
    if on_metrics is not None:
        on_metrics(stage, measured.metrics)


@dataclass(frozen=True)
class _Attempt:
    """One training and what was measured after it."""

    config: UnlearnConfig
    distilled: DistillResult
    trained: Sequence[str]
    after: Measured
    evidence: Evidence | None
    checks: Sequence[Mapping[str, Any]]

    @property
    def missed(self) -> list[str]:
        """The figures whose targets don't hold."""
        return [] if self.evidence is None else [each.figure.name for each in self.evidence.verdict.missed]


@dataclass(frozen=True)
class _Rung:
    """Trains and measures with the settings of one rung of the ladder."""

    spec: UnlearnSpec
    base: BaseModel
    sets: RunSets
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

    def climb(self, config: UnlearnConfig, before: Measured, scorer: Scorer, fresh: bool) -> _Attempt:
        """Distils, and measures the student. fresh: begins at the first step, whatever checkpoint there is."""
        auditor = Auditor(self.sets.audited, self.sets.all, config, self.sets.kits)
        self.tracker.restart(config.training.steps_for(len(self.sets.forget)))
        self.timer.enter(Phase.distilling)
        early_stopping = self._early_stopping(config, scorer)
        distilled = self._distil(config, early_stopping, self._checkpoints(config, fresh))
        trained = require_trained(distilled.student)
        self.timer.enter(Phase.evaluating)
        after = auditor.after(self.base, scorer, before, self.tracker.update)
        checks = early_stopping.as_rows() if early_stopping is not None else []
        return _Attempt(config, distilled, trained, after, auditor.evidence(after), checks)

    def _distil(
        self, config: UnlearnConfig, early_stopping: EarlyStopping | None, checkpoints: Checkpoints | None
    ) -> DistillResult:
        def step_done(step: int, loss: StepLoss) -> None:
            self.tracker.step_done(step, loss.forget, loss.retain, loss.gradient_norm, loss.learning_rate)

        return distil(
            self.base,
            self.sets.to_forget,
            self.sets.retain,
            config,
            step_done,
            early_stopping,
            checkpoints,
            strangers=self.sets.photos_of("strangers"),
            unlabelled=self.sets.photos_of("unlabelled"),
            start=self.spec.start,
        )

    def _early_stopping(self, config: UnlearnConfig, scorer: Scorer) -> EarlyStopping | None:
        """Early stopping, which measures the base now; None without targets."""
        targets = config.training.targets
        if targets is None:
            return None
        return EarlyStopping(self.base, scorer, self.sets.all, targets, config, self.sets.audited)

    def _checkpoints(self, config: UnlearnConfig, fresh: bool = False) -> Checkpoints | None:
        """The run's checkpoints under these settings, if it has a folder for them."""
        if self.spec.checkpoint is None:
            return None
        start = _start_digest(self.spec)
        run = identity(self.base, self.sets.digests | ({} if start is None else {"start": start}), config)
        return Checkpoints(self.spec.checkpoint, run, self.spec.checkpoint_seconds, self.stop, fresh)


def _start_digest(spec: UnlearnSpec) -> str | None:
    return None if spec.start is None else file_digest(spec.start / ADAPTER_WEIGHTS)


def _package(
    base: BaseModel,
    attempt: _Attempt,
    spec: UnlearnSpec,
    sets: RunSets,
    before: Measured,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Writes adapter, evidence and manifest and returns the manifest; in the main process alone, else empty."""
    if not distributed.is_main():
        return {}
    distilled = attempt.distilled
    record = RunRecord(
        model_name=spec.model_name,
        config=attempt.config,
        data=sets.manifest_entries(),
        trained_modules=attempt.trained,
        scorer=distilled.scorer,
        metrics={"before": before.metrics, "after": attempt.after.metrics},
        stop_reason=distilled.stop_reason,
        steps=distilled.steps,
        resumed_after=distilled.resumed_after,
        micro_batch_size=distilled.micro_batch_size,
        checks=attempt.checks,
        seconds=seconds,
        evidence=None if attempt.evidence is None else attempt.evidence.as_json(),
        start=_start_digest(spec),
    )
    write_adapter(distilled.student, spec.out, record.model_name)
    manifest = build_manifest(base, record, spec.out)
    write_manifest(manifest, record.evidence, spec.out)
    return manifest
