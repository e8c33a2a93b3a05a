"""The whole job: load, measure, distil, measure again, package. Reads top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel

from vgid_core.artifact import RunRecord, build_manifest, write_adapter, write_manifest
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.metric import Metric, knows_forget_set
from vgid_core.lora.attach import require_trained
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.load import HostModel, load_base, require_unchanged
from vgid_core.progress import Phase, Progress, ProgressTracker
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.spec import RunSets, UnlearnSpec
from vgid_core.training.checkpoints import Checkpoints, delete_checkpoint, identity
from vgid_core.training.early_stop import EarlyStopping
from vgid_core.training.loop import StepLoss, distil
from vgid_core.training.memory import within_memory

log = logging.getLogger(__name__)

Stage = Literal["before", "after"]
OnStep = Callable[[Progress], None]
OnMetrics = Callable[[Stage, list[Metric]], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class UnlearnResult:
    """`folder` holds adapter_config.json, adapter_model.safetensors, manifest.json and README.md."""

    folder: Path
    metrics_before: list[Metric]
    metrics_after: list[Metric]
    steps: int
    stop_reason: str
    manifest: dict[str, Any] = field(repr=False)

    @property
    def knew(self) -> bool:
        """Whether the base gave the forget set's answers at all; if not, there was nothing to unlearn."""
        return knows_forget_set(self.metrics_before)


def unlearn(
    spec: UnlearnSpec,
    on_step: OnStep | None = None,
    on_metrics: OnMetrics | None = None,
    base: HostModel | None = None,
    stop: Stop | None = None,
) -> UnlearnResult:
    """Distils the forgetting of `spec.forget` into a LoRA adapter and measures what it did.

    `on_step` hears phases and steps, `on_metrics` each round of figures; an exception they raise ends the run.
    `base` is the model read ahead by `read_base`; this run uses it up, or reads its own if it isn't the spec's.
    `stop` is asked after each step of a run with a checkpoint (of one process): if it says so, the step is written
    down, and the run ends with RunStopped. Raises UnlearnError (model, memory, divergence, untrained adapter, another
    run's checkpoint) and DataError (a pair that can't be used); then nothing in `spec.out` has changed. There, a
    manifest is written last, after one that was there before is gone: so it says that all is whole. The base model is
    never changed.

    Started as one of several processes (`accelerate launch`), it shares the training with the others; all of them make
    the same call, the first one reports and writes.
    """
    distributed.init_processes(on_cpu=spec.config.device == "cpu" or not torch.cuda.is_available())
    if not distributed.is_main():
        on_step = on_metrics = None
    told = "the accelerator ran out of memory; try a smaller micro-batch or a larger device"
    return within_memory(lambda: _run(spec, on_step, on_metrics, base, stop), told)


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
    clock = _Clock(tracker)

    clock.enter(Phase.loading)
    base = load_base(spec.model, spec.config, read)
    checkpoints = _checkpoints(spec, base, sets, stop)
    base.encoder.require_usable(*sets.all, settings=spec.config.method.texts)

    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)

    def measure(stage: Stage, phase: Phase) -> list[Metric]:
        clock.enter(phase)
        metrics = evaluate(base, scorer, sets.all, spec.config.evaluation, tracker.within)
        if on_metrics is not None:
            on_metrics(stage, metrics)
        return metrics

    def step_done(step: int, loss: StepLoss) -> None:
        tracker.step_done(step, loss.forget, loss.retain, loss.gradient_norm, loss.learning_rate)

    before = measure("before", Phase.baseline)
    clock.enter(Phase.distilling)
    targets = spec.config.training.targets
    early_stopping = (
        EarlyStopping(base, scorer, sets.all, targets, spec.config.evaluation) if targets is not None else None
    )
    distilled = distil(
        base,
        sets.forget,
        sets.retain,
        spec.config,
        step_done,
        early_stopping,
        checkpoints,
        strangers=sets.photos_of("strangers"),
        unlabelled=sets.photos_of("unlabelled"),
    )
    trained = require_trained(distilled.student)
    after = measure("after", Phase.evaluating)
    require_unchanged(base, spec.model)

    clock.enter(Phase.packaging)
    record = RunRecord(
        model_name=spec.model_name,
        config=spec.config,
        data=sets.described(),
        trained_modules=trained,
        scorer=distilled.scorer,
        metrics={"before": before, "after": after},
        stop_reason=distilled.stop_reason,
        steps=distilled.steps,
        resumed_after=distilled.resumed_after,
        micro_batch_size=distilled.micro_batch_size,
        checks=early_stopping.as_rows() if early_stopping is not None else [],
        seconds=clock.seconds(),
    )
    manifest = distributed.broadcast(_package(base, distilled.student, record, spec.out))
    if spec.checkpoint is not None and not spec.keep_checkpoint and distributed.is_main():
        delete_checkpoint(spec.checkpoint)
    return UnlearnResult(spec.out, before, after, record.steps, record.stop_reason, manifest)


def _package(base: BaseModel, student: PeftModel, record: RunRecord, out: Path) -> dict[str, Any]:
    """The manifest, written beside the adapter by the first process."""
    if not distributed.is_main():
        return {}
    write_adapter(student, out, record.model_name)
    manifest = build_manifest(base, record, out)
    write_manifest(manifest, out)
    return manifest


def _checkpoints(spec: UnlearnSpec, base: BaseModel, sets: RunSets, stop: Stop | None) -> Checkpoints | None:
    """Where the run leaves its checkpoints. Raises CheckpointUnusable when another run has left one there."""
    if spec.checkpoint is None:
        return None
    run = identity(base, sets.digests, spec.config)
    checkpoints = Checkpoints(spec.checkpoint, run, spec.checkpoint_seconds, stop)
    checkpoints.require_own()
    return checkpoints


class _Clock:
    """Seconds by phase, beside the tracker's reports."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._starts: dict[Phase, float] = {}

    def enter(self, phase: Phase) -> None:
        self._starts[phase] = time.monotonic()
        self._tracker.enter(phase)

    def seconds(self) -> dict[str, float]:
        """Duration of each phase so far, the last one up to now, by its name."""
        marks = [*self._starts.values(), time.monotonic()]
        return {str(phase): marks[i + 1] - marks[i] for i, phase in enumerate(self._starts)}
