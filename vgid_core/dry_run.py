"""What a run would take and whether there is anything to forget, measured with the model and data at hand."""

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
from vgid_core.evaluation.metric import Metric, knows_forget_set
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

Found = TypeVar("Found")

_PAIRS_ASKED = 24  # of each set
_STEPS_TIMED = 5
_SECONDS_TIMED = 120.0


@dataclass(frozen=True)
class Memory:
    """Bytes on the device while distilling.

    weights: of the base as loaded. adapter: its parameters and their gradients. optimizer: AdamW's two moments, and a
    float32 copy where the adapter's own precision is another. activations: what a micro-batch adds at its peak; on an
    accelerator as the allocator measured it, elsewhere counted: the tensors that autograd keeps for the way back, to
    which passing ones come on top. evaluation: the peak of generating on top of the weights; None where it isn't known.
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
        """What the run needs at its peak."""
        return self.weights + max(self.adapter + self.optimizer + self.activations, self.evaluation or 0)


@dataclass(frozen=True)
class Duration:
    """Seconds. `step` is the median of `steps_timed` real steps, of which the whole run, `total`, has `steps`.

    times_shown: how often they show each forget pair, on average. evaluation: one of the two that a run makes.
    preparation: what a method computes once: as it begins, for each forget pair and for each retain pair.
    """

    loading: float
    evaluation: float
    preparation: float
    step: float
    steps_timed: int
    steps: int
    times_shown: float
    total: float


@dataclass(frozen=True)
class Estimate:
    """What `estimate` found. `adapter_file` is the size of what is saved; `scorer` as in `vgid_core.scoring.choose`."""

    device: str
    dtype: str
    scorer: str
    parameters: int
    adapter_parameters: int
    adapter_file: int
    memory: Memory
    duration: Duration
    metrics: list[Metric]

    @property
    def knows(self) -> bool:
        """Whether the model gives the forget set's answers at all."""
        return knows_forget_set(self.metrics)


def estimate(spec: UnlearnSpec) -> Estimate:
    """Loads the model, asks it a sample of every set and makes a few real steps; writes nothing and keeps nothing.

    Raises what `run.unlearn` raises; OutOfMemory says that the run itself wouldn't fit.
    """
    told = "the run doesn't fit the accelerator; try a smaller micro-batch or a larger device"
    return within_memory(lambda: _estimate(spec), told)


def _estimate(spec: UnlearnSpec) -> Estimate:
    sets = RunSets.of(spec)
    spec = replace(spec, config=spec.config.for_pairs(len(sets.forget)))
    started = time.monotonic()
    base = load_base(spec.model, spec.config)
    loading = time.monotonic() - started
    base.encoder.require_usable(*sets.all, settings=spec.config.method.texts)
    parameters, weights = base.model.num_parameters(), base.model.get_memory_footprint()
    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)
    metrics, evaluation, evaluation_peak = _asked(base, scorer, sets.all, spec.config)
    steps, count = _Steps(base), spec.config.training.steps_for(len(sets.forget))
    steps.run(sets, spec.config)
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    trainable = sum(parameter.numel() for parameter in trained)
    size = sum(parameter.nbytes for parameter in trained)
    preparation = _prepared(base, scorer, sets, spec.config)
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
            times_shown=count * spec.config.training.forget_batch_size / len(sets.forget),
            total=loading + 2 * evaluation + preparation + steps.seconds * count,
        ),
        metrics=metrics,
    )


def _memory(
    base: BaseModel, weights: int, trainable: int, size: int, steps: _Steps, evaluation_peak: int | None
) -> Memory:
    """`trainable` parameters of `size` bytes."""
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


def _asked(
    base: BaseModel, scorer: Scorer, sets: list[PairSet], config: UnlearnConfig
) -> tuple[list[Metric], float, int | None]:
    """Figures of a sample of every set; the seconds that all of it would take; the peak on an accelerator."""
    whole = sum(min(len(items), config.evaluation.max_pairs) for items in sets)
    settings = config.evaluation.model_copy(update={"max_pairs": min(config.evaluation.max_pairs, _PAIRS_ASKED)})
    before = _allocated(base)
    started = time.monotonic()
    metrics = evaluate(base, scorer, sets, settings)
    seconds = time.monotonic() - started
    asked = sum(metric.pairs for metric in metrics if metric.name == "rouge_l")
    peak = None if before is None else torch.cuda.max_memory_allocated(base.device) - before
    return metrics, seconds * whole / asked, peak


def _prepared(base: BaseModel, scorer: Scorer, sets: RunSets, config: UnlearnConfig) -> float:
    """Seconds of what the method computes once: as it begins, for each forget pair and for each retain pair.

    The latter two are told from some of the pairs that its batches hold.
    """
    forget, retain = sets.forget, sets.retain
    some = PairSet.of(forget.name, forget.pairs[:_PAIRS_ASKED])
    known, others = retain.pairs[:1], retain.pairs[1 : 1 + _PAIRS_ASKED]
    training = config.for_pairs(len(forget)).training
    run = MethodContext(
        base, scorer, training, config.seed, some, retain, sets.photos_of("strangers"), sets.photos_of("unlabelled")
    )

    def seconds(updates: MakeUpdates, coming: Sequence[Pair]) -> float:
        run.prefetch[:] = coming
        return _taken(base, lambda: updates(some.pairs, coming))[1]

    updates, begun = _taken(base, lambda: setup(config.method, run))
    finding_nothing = seconds(updates, known)
    updates = setup(config.method, run)
    taught = seconds(updates, known)
    kept = seconds(updates, others) - seconds(updates, others) if others else 0.0
    return (
        begun
        + max(0.0, finding_nothing - taught)
        + taught * min(len(forget), run.steps * training.forget_batch_size) / len(some)
        + max(0.0, kept) * min(len(retain), run.steps * training.retain_batch_size) / max(1, len(others))
    )


def _taken(base: BaseModel, compute: Callable[[], Found]) -> tuple[Found, float]:
    """What comes of it, and the seconds that it took."""
    started = time.monotonic()
    found = compute()
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)
    return found, time.monotonic() - started


class _Steps:
    """A few of a run's own steps: how long they take and what they need on top of the weights.

    They go over two batches of forget pairs again and again, so that what a method computes once for each pair is in
    the first two alone, which don't count; what that costs is told by `_prepared`.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._ended: list[float] = []
        self._kept = SavedTensorCounter(base)
        self._counting = ExitStack()
        self._before = _allocated(base)

    def run(self, sets: RunSets, config: UnlearnConfig) -> None:
        """Makes the steps: fewer of them where they are long."""
        steps = min(config.training.steps_for(len(sets.forget)), _STEPS_TIMED)
        few = PairSet.of("forget", sets.forget.pairs[: 2 * config.training.forget_batch_size])
        short = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
        with self._counting:
            if not self.measured:
                hooks = torch.autograd.graph.saved_tensors_hooks(self._kept.pack, self._kept.unpack)
                self._counting.enter_context(hooks)
            self._ended.append(time.monotonic())
            with suppress(_LongEnough):
                distil(
                    self._base,
                    few,
                    sets.retain,
                    short,
                    self._step_done,
                    strangers=sets.photos_of("strangers"),
                    unlabelled=sets.photos_of("unlabelled"),
                )

    @property
    def measured(self) -> bool:
        """Whether an accelerator's allocator says what was needed, or the tensors that autograd keeps are counted."""
        return self._before is not None

    @property
    def steady(self) -> list[float]:
        """Seconds of each step; of the first two, which find nothing ready, only where there is no other."""
        taken = self._taken
        return taken[2:] or taken[1:] or taken

    @property
    def seconds(self) -> float:
        """Of a step that finds everything ready."""
        return median(self.steady)

    @property
    def _taken(self) -> list[float]:
        return [after - before for before, after in zip(self._ended, self._ended[1:], strict=False)]

    @property
    def peak(self) -> int:
        """Bytes: on an accelerator of all that training added, elsewhere of what autograd kept."""
        if self._before is not None:
            return torch.cuda.max_memory_allocated(self._base.device) - self._before
        return self._kept.peak

    def _step_done(self, _step: int, _loss: StepLoss) -> None:
        if self._base.device.type == "cuda":
            torch.cuda.synchronize(self._base.device)
        self._counting.close()  # counting takes time, so later steps go without
        self._ended.append(time.monotonic())
        if len(self._taken) > 2 and self._ended[-1] - self._ended[0] > _SECONDS_TIMED:
            raise _LongEnough


class _LongEnough(Exception):
    pass


def _allocated(base: BaseModel) -> int | None:
    """Bytes in use on an accelerator, whose peak starts anew; None on CPU."""
    if base.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(base.device)
    return int(torch.cuda.memory_allocated(base.device))
