"""Dry run: measures the memory and time that a run would take, and whether the model knows the forget set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, TypeVar

import torch

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.evidence import Auditor
from vgid_core.evaluation.known import why_not_forget
from vgid_core.evaluation.metric import Metric
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.scorer import Scorer
from vgid_core.spec import RunSets, UnlearnSpec
from vgid_core.training.loop import StepLoss, distil
from vgid_core.training.memory import within_memory
from vgid_core.training.saved_tensors import SavedTensorCounter

Result = TypeVar("Result")

_SAMPLE_PAIRS = 24  # of each set
_TIMED_STEPS = 5
_MAX_SECONDS = 120.0


@dataclass(frozen=True)
class Memory:
    """Bytes of the device's memory in training and evaluation.

    weights: of the base as loaded. adapter: its parameters and gradients. optimizer: AdamW's two moments, and float32
    masters unless the adapter is in float32. activations: the peak that a micro-batch adds. how: activations are
    "measured" by the accelerator's allocator, or on CPU "counted": autograd's saved tensors, without temporary ones.
    evaluation: the peak of generation on top of the weights; None on CPU. available: the device's memory; None on CPU.
    """

    weights: int
    adapter: int
    optimizer: int
    activations: int
    how: Literal["measured", "counted"]
    evaluation: int | None
    available: int | None

    @property
    def total(self) -> int:
        """The peak of the whole run."""
        return self.weights + max(self.adapter + self.optimizer + self.activations, self.evaluation or 0)


@dataclass(frozen=True)
class Duration:
    """Durations in seconds, extrapolated to the whole run.

    evaluation: one of the run's two evaluations. preparation: what the method computes once, on setup and for each
    forget pair and retain pair. step: median of `steps_timed` real steps. steps: their number in the whole run. epochs:
    the run's passes over the forget set. total: the whole run.
    """

    loading: float
    evaluation: float
    preparation: float
    step: float
    steps_timed: int
    steps: int
    epochs: float
    total: float


@dataclass(frozen=True)
class Estimate:
    """The result of `estimate`.

    scorer: packed or padded. adapter_file: the saved adapter's bytes. unknown: why there is nothing to forget, or None.
    """

    device: str
    dtype: str
    scorer: str
    parameters: int
    adapter_parameters: int
    adapter_file: int
    memory: Memory
    duration: Duration
    metrics: list[Metric]
    unknown: str | None


def estimate(spec: UnlearnSpec) -> Estimate:
    """Loads the model, evaluates a sample of each set and makes a few real steps. Writes nothing.

    Raises what `run.unlearn` raises. OutOfMemory means that the run itself wouldn't fit.
    """
    message = "the run doesn't fit the accelerator; try a smaller micro-batch or a larger device"
    return within_memory(lambda: _estimate(spec), message)


def _estimate(spec: UnlearnSpec) -> Estimate:
    sets = RunSets.of(spec)
    spec = replace(spec, config=spec.config.for_pairs(len(sets.requested)))
    started = time.monotonic()
    base = load_base(spec.model, spec.config)
    loading = time.monotonic() - started
    base.encoder.require_usable(*sets.all, settings=spec.config.method.texts)
    parameters, weights = base.model.num_parameters(), base.model.get_memory_footprint()
    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)
    metrics, evaluation, evaluation_peak = _evaluate_sample(base, scorer, sets.all, spec.config)
    reason = why_not_forget(Auditor(sets.audited, (), spec.config.with_audits("quick")).before(base, scorer).figures)
    steps, count = _StepTimer(base), spec.config.training.steps_for(len(sets.requested))
    steps.run(sets, spec.config)
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    trainable, size = sum(each.numel() for each in trained), sum(each.nbytes for each in trained)
    preparation = _preparation_seconds(base, scorer, sets, spec.config)
    return Estimate(
        device=torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else "cpu",
        dtype=str(base.dtype).removeprefix("torch."),
        scorer=scorer.name,
        parameters=parameters,
        adapter_parameters=trainable,
        adapter_file=size,
        memory=_memory(base, weights, trainable, size, steps, evaluation_peak),
        duration=Duration(
            loading=loading,
            evaluation=evaluation,
            preparation=preparation,
            step=steps.seconds,
            steps_timed=len(steps.steady),
            steps=count,
            epochs=count * spec.config.training.forget_batch_size / len(sets.forget),
            total=loading + 2 * evaluation + preparation + steps.seconds * count,
        ),
        metrics=metrics,
        unknown=None if reason is None else str(reason),
    )


def _memory(
    base: BaseModel, weights: int, trainable: int, size: int, steps: _StepTimer, evaluation_peak: int | None
) -> Memory:
    """The memory of a run. trainable, size: the adapter's number of parameters and their bytes."""
    optimizer = 4 * (2 if base.dtype == torch.float32 else 3) * trainable
    return Memory(
        weights=weights,
        adapter=2 * size,
        optimizer=optimizer,
        activations=max(0, steps.peak - (2 * size + optimizer if steps.measured else 0)),
        how="measured" if steps.measured else "counted",
        evaluation=evaluation_peak,
        available=torch.cuda.mem_get_info(base.device)[1] if base.device.type == "cuda" else None,
    )


def _evaluate_sample(
    base: BaseModel, scorer: Scorer, sets: list[PairSet], config: UnlearnConfig
) -> tuple[list[Metric], float, int | None]:
    """Metrics of a sample of each set, the seconds of a whole evaluation, and its peak memory on CUDA in bytes."""
    whole = sum(min(len(items), config.evaluation.max_pairs) for items in sets)
    settings = config.evaluation.model_copy(update={"max_pairs": min(config.evaluation.max_pairs, _SAMPLE_PAIRS)})
    before = _allocated(base)
    started = time.monotonic()
    metrics = evaluate(base, scorer, sets, settings)
    seconds = time.monotonic() - started
    sampled = sum(metric.pairs for metric in metrics if metric.name == "rouge_l")
    peak = None if before is None else torch.cuda.max_memory_allocated(base.device) - before
    return metrics, seconds * whole / sampled, peak


def _preparation_seconds(base: BaseModel, scorer: Scorer, sets: RunSets, config: UnlearnConfig) -> float:
    """Seconds of what the method computes once: on setup, for each forget pair and for each retain pair.

    The latter two are extrapolated from a sample. Each is a difference between two calls of `updates`, of which the
    second finds more cached than the first.
    """
    forget, retain = sets.forget, sets.to_retain
    sample = PairSet.of(forget.name, forget.pairs[:_SAMPLE_PAIRS])
    first, others = retain.pairs[:1], retain.pairs[1 : 1 + _SAMPLE_PAIRS]
    training = config.for_pairs(len(forget)).training
    context = MethodContext(
        base,
        scorer,
        training,
        config.seed,
        sample,
        retain,
        sets.photos_of("unseen_faces"),
        sets.photos_of("unlabelled"),
    )

    def seconds(updates: MakeUpdates, retain_batch: Sequence[Pair]) -> float:
        context.prefetch[:] = retain_batch
        return _timed(base, lambda: updates(sample.pairs, retain_batch))[1]

    updates, setup_seconds = _timed(base, lambda: setup(config.method, context))
    uncached = seconds(updates, first)
    updates = setup(config.method, context)
    targets = seconds(updates, first)
    retain_states = seconds(updates, others) - seconds(updates, others) if others else 0.0
    return (
        setup_seconds
        + max(0.0, uncached - targets)
        + targets * min(len(forget), context.steps * training.forget_batch_size) / len(sample)
        + max(0.0, retain_states) * min(len(retain), context.steps * training.retain_batch_size) / max(1, len(others))
    )


def _timed(base: BaseModel, compute: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `compute`, and the seconds that it took."""
    started = time.monotonic()
    result = compute()
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)
    return result, time.monotonic() - started


class _StepTimer:
    """Makes a few of the run's own steps, and measures their time and the memory they add to the weights.

    The steps alternate between two batches of forget pairs. So what a method computes once for each pair falls into the
    first two steps, which don't count; `_preparation_seconds` measures it.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._step_ends: list[float] = []
        self._saved_tensors = SavedTensorCounter(base)
        self._counting = ExitStack()
        self._before = _allocated(base)

    def run(self, sets: RunSets, config: UnlearnConfig) -> None:
        """Makes the steps; stops early after _MAX_SECONDS."""
        steps = min(config.training.steps_for(len(sets.requested)), _TIMED_STEPS)
        two_batches = PairSet.of("forget", sets.forget.pairs[: 2 * config.training.forget_batch_size])
        short = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
        with self._counting:
            if not self.measured:
                saved = self._saved_tensors
                self._counting.enter_context(torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack))
            self._step_ends.append(time.monotonic())
            with suppress(_TimeIsUp):
                distil(
                    self._base,
                    two_batches,
                    sets.to_retain,
                    short,
                    self._step_done,
                    unseen_faces=sets.photos_of("unseen_faces"),
                    unlabelled=sets.photos_of("unlabelled"),
                )

    @property
    def measured(self) -> bool:
        """Whether the memory is measured by CUDA's allocator; else saved tensors are counted."""
        return self._before is not None

    @property
    def steady(self) -> list[float]:
        """Seconds of each step that finds all caches filled; of an earlier step if there is no other."""
        durations = self._durations
        return durations[2:] or durations[1:] or durations

    @property
    def seconds(self) -> float:
        """The median duration of a step with all caches filled."""
        return median(self.steady)

    @property
    def _durations(self) -> list[float]:
        return [after - before for before, after in zip(self._step_ends, self._step_ends[1:], strict=False)]

    @property
    def peak(self) -> int:
        """Peak bytes: on CUDA all that training adds, else autograd's saved tensors."""
        if self._before is not None:
            return torch.cuda.max_memory_allocated(self._base.device) - self._before
        return self._saved_tensors.peak

    def _step_done(self, _step: int, _loss: StepLoss) -> None:
        if self._base.device.type == "cuda":
            torch.cuda.synchronize(self._base.device)
        self._counting.close()  # counting slows a step down, so only the first is counted
        self._step_ends.append(time.monotonic())
        if len(self._durations) > 2 and self._step_ends[-1] - self._step_ends[0] > _MAX_SECONDS:
            raise _TimeIsUp


class _TimeIsUp(Exception):
    """Ends the timed steps."""


def _allocated(base: BaseModel) -> int | None:
    """Resets CUDA's peak counter and returns the bytes in use; None on CPU."""
    if base.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(base.device)
    return int(torch.cuda.memory_allocated(base.device))
