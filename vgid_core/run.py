"""One run: load the base, measure it, distil, measure again, package the adapter."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel

from vgid_core.artifact import RunRecord, build_manifest, write_adapter, write_manifest
from vgid_core.config import UnlearnConfig
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.metric import Metric, knows_forget_set
from vgid_core.lora.attach import require_trained
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.load import HostModel, load_base, require_unchanged
from vgid_core.progress import Phase, Progress, ProgressTracker
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

    folder: holds adapter_config.json, adapter_model.safetensors, manifest.json and README.md.
    """

    folder: Path
    metrics_before: list[Metric]
    metrics_after: list[Metric]
    steps: int
    stop_reason: str
    manifest: dict[str, Any] = field(repr=False)

    @property
    def knew(self) -> bool:
        """Whether the base knew the forget set's answers. If not, there was nothing to unlearn."""
        return knows_forget_set(self.metrics_before)


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
    is deleted: a manifest means that the adapter is complete. Raises UnlearnError (model, memory, divergence, untrained
    adapter, another run's checkpoint) and DataError (an unusable pair), both before anything in `spec.out` changes.

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
    spec = replace(spec, config=spec.config.for_pairs(len(sets.forget)))
    tracker = ProgressTracker(spec.config.training.steps_for(len(sets.forget)), on_step)
    timer = _PhaseTimer(tracker)

    timer.enter(Phase.loading)
    base = load_base(spec.model, spec.config, read)
    checkpoints = _checkpoints(spec, base, sets, stop)
    base.encoder.require_usable(*sets.all, settings=spec.config.method.texts)
    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)

    def measure(stage: Stage, phase: Phase) -> list[Metric]:
        timer.enter(phase)
        metrics = evaluate(base, scorer, sets.all, spec.config.evaluation, tracker.update)
        if on_metrics is not None:
            on_metrics(stage, metrics)
        return metrics

    before = measure("before", Phase.baseline)
    timer.enter(Phase.distilling)
    early_stopping = _early_stopping(base, scorer, sets, spec.config)
    distilled = _distil(base, sets, spec.config, tracker, early_stopping, checkpoints)
    trained = require_trained(distilled.student)
    after = measure("after", Phase.evaluating)
    require_unchanged(base, spec.model)

    timer.enter(Phase.packaging)
    checks = early_stopping.as_rows() if early_stopping is not None else []
    record = _record(spec, sets, distilled, trained, {"before": before, "after": after}, checks, timer.seconds())
    manifest = distributed.broadcast(_package(base, distilled.student, record, spec.out))
    if spec.checkpoint is not None and not spec.keep_checkpoint and distributed.is_main():
        delete_checkpoint(spec.checkpoint)
    return UnlearnResult(spec.out, before, after, record.steps, record.stop_reason, manifest)


def _early_stopping(base: BaseModel, scorer: Scorer, sets: RunSets, config: UnlearnConfig) -> EarlyStopping | None:
    """Early stopping, which measures the base now; None without targets."""
    targets = config.training.targets
    return EarlyStopping(base, scorer, sets.all, targets, config.evaluation) if targets is not None else None


def _distil(
    base: BaseModel,
    sets: RunSets,
    config: UnlearnConfig,
    tracker: ProgressTracker,
    early_stopping: EarlyStopping | None,
    checkpoints: Checkpoints | None,
) -> DistillResult:
    def step_done(step: int, loss: StepLoss) -> None:
        tracker.step_done(step, loss.forget, loss.retain, loss.gradient_norm, loss.learning_rate)

    return distil(
        base,
        sets.forget,
        sets.retain,
        config,
        step_done,
        early_stopping,
        checkpoints,
        strangers=sets.photos_of("strangers"),
        unlabelled=sets.photos_of("unlabelled"),
    )


def _record(
    spec: UnlearnSpec,
    sets: RunSets,
    distilled: DistillResult,
    trained: Sequence[str],
    metrics: Mapping[str, Sequence[Metric]],
    checks: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> RunRecord:
    return RunRecord(
        model_name=spec.model_name,
        config=spec.config,
        data=sets.manifest_entries(),
        trained_modules=trained,
        scorer=distilled.scorer,
        metrics=metrics,
        stop_reason=distilled.stop_reason,
        steps=distilled.steps,
        resumed_after=distilled.resumed_after,
        micro_batch_size=distilled.micro_batch_size,
        checks=checks,
        seconds=seconds,
    )


def _package(base: BaseModel, student: PeftModel, record: RunRecord, out: Path) -> dict[str, Any]:
    """Writes adapter and manifest and returns the manifest; in the main process alone, else empty."""
    if not distributed.is_main():
        return {}
    write_adapter(student, out, record.model_name)
    manifest = build_manifest(base, record, out)
    write_manifest(manifest, out)
    return manifest


def _checkpoints(spec: UnlearnSpec, base: BaseModel, sets: RunSets, stop: Stop | None) -> Checkpoints | None:
    """The run's checkpoints, if it has a folder for them. Raises CheckpointUnusable for another run's checkpoint."""
    if spec.checkpoint is None:
        return None
    run = identity(base, sets.digests, spec.config)
    checkpoints = Checkpoints(spec.checkpoint, run, spec.checkpoint_seconds, stop)
    checkpoints.require_own()
    return checkpoints


class _PhaseTimer:
    """Measures the seconds of each phase and passes phases on to the tracker."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._starts: dict[Phase, float] = {}

    def enter(self, phase: Phase) -> None:
        self._starts[phase] = time.monotonic()
        self._tracker.enter(phase)

    def seconds(self) -> dict[str, float]:
        """The duration of each phase so far by name; the last phase up to now."""
        marks = [*self._starts.values(), time.monotonic()]
        return {str(phase): marks[i + 1] - marks[i] for i, phase in enumerate(self._starts)}
