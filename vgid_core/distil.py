"""The distillation: a student with LoRA is updated as a method says, step by step (`vgid_core.methods`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from peft import PeftModel
from torch import nn

from vgid_core.base_model import BaseModel, attach_adapter
from vgid_core.config import TrainingConfig, UnlearnConfig
from vgid_core.data import Pair, PairSet
from vgid_core.epochs import decay_by_epoch, draw_epochs
from vgid_core.errors import TrainingDiverged
from vgid_core.fp8 import FP8_ROUNDING
from vgid_core.fused_lora import fp8_products
from vgid_core.lessons import Role, Update, Updates
from vgid_core.methods import Run
from vgid_core.packed_model import Compiler
from vgid_core.paths import AnswerPath, choose_path, telling_pairs

# It takes 25 to 43 s and saves 9 ms a pair at LLaVA-1.5-7B's shapes on one H100.
_PAIRS_WORTH_COMPILING = 5000
_MOST_COMPILATIONS = 64


@dataclass(frozen=True)
class BatchLoss:
    """An update's losses, by term and part, before their weights; and the norm of its weighted gradient.

    The first part of VGID's terms is the divergence, in nats per answer token; per pair where it is of all positions.
    """

    losses: Sequence[tuple[float, ...]]
    gradient_norm: float


@dataclass(frozen=True)
class Distilled:
    """A trained student, and by which path its loss was computed: packed or plain (see `vgid_core.paths`)."""

    student: PeftModel
    path: str


@dataclass(frozen=True)
class StepLoss:
    """What a step's leading losses were: the first part of the first term of each role, None where it has no term."""

    forget: float | None
    retain: float | None


StepCallback = Callable[[int, StepLoss], None]


def distil(
    base: BaseModel, forget: PairSet, retain: PairSet, config: UnlearnConfig, on_step: StepCallback | None = None
) -> Distilled:
    """Trains an adapter on `base`. The student comes back in evaluation mode, its adapter switched on.

    The base's weights are never touched. The same seed, data, machine and thread count give the same adapter; the
    caller's random state is left as it was. Raises TrainingDiverged when a loss stops being finite.
    """
    config = config.for_sets(len(forget), len(retain))
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        student = attach_adapter(base, config.lora, config.method.reach(len(base.model.get_decoder().layers)))
        with fp8_products(student, base.device) if config.training.fp8 else nullcontext():
            compiler = _compiler(base, config.training)
            rounding = FP8_ROUNDING if config.training.fp8 else None
            pairs, by_row = telling_pairs([forget, retain]), config.method.row_by_row
            path = choose_path(base, pairs, config.lora, compiler, rounding, by_row)
            trainer = Distiller(path, student, config, learning_rate(config.training, forget, retain))
            student.train(config.lora.dropout > 0)
            updates = config.method.begin(Run(base, path, config.training, config.seed))
            _run_steps(trainer, updates, forget, retain, config, on_step)
    return Distilled(student.eval(), path.name)


def _run_steps(
    trainer: Distiller,
    updates: Updates,
    forget: PairSet,
    retain: PairSet,
    config: UnlearnConfig,
    on_step: StepCallback | None,
) -> None:
    training = config.training
    draw: Callable[[PairSet, int, random.Random], Iterator[list[Pair]]] = draw_batches
    if training.epochs is not None:
        draw = partial(draw_epochs, steps=training.steps_per_epoch(len(forget), len(retain)))
    forget_batches = draw(forget, training.forget_batch_size, random.Random(config.seed))
    retain_batches = draw(retain, training.retain_batch_size, random.Random(config.seed + 1))
    for step in range(1, training.steps + 1):
        leading: dict[Role, float] = {}
        for update in updates(next(forget_batches), next(retain_batches)):
            result = trainer.update(update)
            for term, losses in zip(update, result.losses, strict=True):
                leading.setdefault(term.role, losses[0])
        trainer.schedule.step()
        if on_step is not None:
            on_step(step, StepLoss(leading.get("forget"), leading.get("retain")))


def layer_compiler() -> Compiler:
    """torch.compile for decoder layers, which all share one compilation for each shape and each way through them."""
    # At torch's own limit of 8, the rest of a run would go on uncompiled.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_COMPILATIONS)
    return partial(torch.compile, dynamic=False)


def _compiler(base: BaseModel, training: TrainingConfig) -> Compiler | None:
    """A compiler where the run is long enough to earn back the half minute that it takes."""
    pairs = training.steps * (training.forget_batch_size + training.retain_batch_size) // 2
    return layer_compiler() if base.device.type == "cuda" and pairs >= _PAIRS_WORTH_COMPILING else None


def draw_batches(items: PairSet, size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Endless batches of `size` pairs: passes over the set, each pair once a pass.

    Images are shuffled, and the questions of each, but an image's questions stay together: they share a prefix.
    """
    images: dict[str, list[Pair]] = {}
    for pair in items:
        images.setdefault(pair.image.digest, []).append(pair)
    queue: list[Pair] = []
    while True:
        while len(queue) < size:
            for pairs in rng.sample(list(images.values()), len(images)):
                queue += rng.sample(pairs, len(pairs))
        yield queue[:size]
        queue = queue[size:]


class Distiller:
    """A step's loss over micro-batches, and the optimiser."""

    def __init__(
        self,
        path: AnswerPath,
        student: PeftModel,
        config: UnlearnConfig,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        """`rate` is the learning rate's factor at each 0-based step; warming up, then falling, if not given."""
        self._path = path
        self._training = config.training
        self._parameters = [p for p in student.parameters() if p.requires_grad]
        self._optimizer = MasterAdamW(self._parameters, config.training)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer.inner, rate or warm_up_then_decay(config.training)
        )

    def accumulate(self, update: Update) -> BatchLoss:
        """Adds the gradient of an update's loss, a micro-batch at a time: their number changes memory alone."""
        losses = [[0.0] * len(term.parts) for term in update]
        for term, sums in zip(update, losses, strict=True):
            tokens = sum(len(self._path.answer_ids(lesson.pair.answer)) for lesson in term.lessons)
            counts = [tokens if part.per == "token" else len(term.lessons) for part in term.parts]
            for start in range(0, len(term.lessons), self._training.micro_batch_size):
                values = term.values(term.lessons[start : start + self._training.micro_batch_size])
                means = [value.sum() / count for value, count in zip(values, counts, strict=True)]
                total = sum(part.weight * mean for part, mean in zip(term.parts, means, strict=True))
                total.backward()  # type: ignore[union-attr]
                for index, mean in enumerate(means):
                    sums[index] += float(mean.detach())
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        return BatchLoss([tuple(sums) for sums in losses], float(norm))

    def update(self, update: Update) -> BatchLoss:
        """One optimiser step. Raises TrainingDiverged before any weight is spoilt."""
        self._optimizer.zero_grad()
        result = self.accumulate(update)
        figures = [result.gradient_norm, *(value for parts in result.losses for value in parts)]
        if not torch.isfinite(torch.tensor(figures)).all():
            raise TrainingDiverged("a loss or gradient is not a finite number; try a lower learning rate")
        if self._training.gradient_clip is not None:
            norm = torch.tensor(result.gradient_norm)
            nn.utils.clip_grads_with_norm_(self._parameters, self._training.gradient_clip, norm)
        self._optimizer.step()
        return result


class MasterAdamW:
    """AdamW on float32 copies of the parameters: a bfloat16 weight would round most small updates away."""

    def __init__(self, parameters: Sequence[nn.Parameter], training: TrainingConfig) -> None:
        self._parameters = list(parameters)
        self._masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self._parameters]
        self.inner = torch.optim.AdamW(
            self._masters,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Updates the masters by the parameters' gradients, then the parameters."""
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self.inner.step()
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)


def learning_rate(training: TrainingConfig, forget: PairSet, retain: PairSet) -> Callable[[int], float]:
    """The learning rate's factor at each 0-based step, by the schedule asked for."""
    if training.schedule == "per-epoch":
        return decay_by_epoch(training, len(forget), len(retain))
    return warm_up_then_decay(training)


def warm_up_then_decay(training: TrainingConfig) -> Callable[[int], float]:
    """Learning-rate factor of a 0-based step: linear up over the warm-up, linear down to a tenth at the end."""

    def factor(step: int) -> float:
        up = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
        down = 1.0 - 0.9 * step / training.steps
        return min(1.0, up) * max(0.1, down)

    return factor
