"""The training loop: distils a method's targets into a LoRA student, step by step."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from peft import PeftModel

from vgid_core.config import UnlearnConfig
from vgid_core.data.batches import draw_batches
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.errors import CheckpointUnusable, RunStopped
from vgid_core.lora.attach import attach_adapter, start_from
from vgid_core.lora.fp8 import FP8_ROUNDING
from vgid_core.lora.fused_product import fp8_products
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates, Role
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.packed.model import Compiler
from vgid_core.training.checkpoints import Checkpoints
from vgid_core.training.forward_cost import MIN_PASSES_TO_COMPILE, forward_passes
from vgid_core.training.optimiser import learning_rate_factor
from vgid_core.training.recompute import recomputed_layers
from vgid_core.training.step import UpdateRunner

log = logging.getLogger(__name__)

_MAX_COMPILATIONS = 64
PREFETCHED_STEPS = 4


@dataclass(frozen=True)
class DistillResult:
    """A trained student and how it was trained.

    scorer: packed or padded. steps: in all, of which an interrupted run did `resumed_after`. micro_batch_size: the one
    at the end, which can be smaller than configured.
    """

    student: PeftModel
    scorer: str
    steps: int
    micro_batch_size: int
    resumed_after: int


@dataclass(frozen=True)
class StepLoss:
    """A step's main losses: the first part of the first term of each role; None if the role has no term.

    gradient_norm: the largest of the step's updates, before clipping. learning_rate: of this step.
    """

    forget: float | None
    retain: float | None
    gradient_norm: float
    learning_rate: float


StepCallback = Callable[[int, StepLoss], None]


def distil(
    base: BaseModel,
    forget: PairSet,
    retain: PairSet,
    config: UnlearnConfig,
    on_step: StepCallback | None = None,
    checkpoints: Checkpoints | None = None,
    unseen_faces: Sequence[EncodedImage] = (),
    unlabelled: Sequence[EncodedImage] = (),
    start: Path | None = None,
) -> DistillResult:
    """Trains an adapter on `base`; returns the student in evaluation mode with its adapter on.

    The base's weights stay unchanged, and so does the caller's random state. The same seed, data, machine and thread
    count give the same adapter, bit for bit, also if the run was interrupted and resumes from `checkpoints`.

    unseen_faces: photos of people whom the model has never seen. unlabelled: photos of anybody, on which the base's
    answers are to stay. Some methods use neither. start: the folder of an adapter with whose weights the student
    begins; what it is taught comes from the base all the same.

    Raises TrainingDiverged if a loss isn't finite, CheckpointUnusable (see `Checkpoints.load`), StartUnusable (see
    `start_from`), and RunStopped (see `Checkpoints`).
    """
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        layers = config.method.trainable_layers(len(base.model.get_decoder().layers))
        student = attach_adapter(base, config.lora, layers)
        if start is not None:
            start_from(student, start, config.lora.alpha)
        recompute = recomputed_layers(base.model) if config.training.gradient_checkpointing else nullcontext()
        with fp8_products(student, base.device) if config.training.fp8 else nullcontext(), recompute:
            compiler = _compiler(base, config, forget)
            tolerance = FP8_ROUNDING if config.training.fp8 else None
            scorer = choose_scorer(base, probe_pairs([forget, retain]), config.lora, compiler, tolerance)
            steps = config.training.steps_for(len(forget))
            runner = UpdateRunner(scorer, student, config, learning_rate_factor(config.training, steps))
            student.train(config.lora.dropout > 0)
            context = MethodContext(
                base, scorer, config.training, config.seed, forget, retain, unseen_faces, unlabelled
            )
            loop = _Loop(runner, setup(config.method, context), context, checkpoints)
            resumed_after = loop.run(on_step)
    return DistillResult(student.eval(), scorer.name, steps, runner.micro_batch_size, resumed_after)


@dataclass(frozen=True)
class _Loop:
    """Runs steps from an interrupted run's checkpoint, or from the first, to the last."""

    runner: UpdateRunner
    updates: MakeUpdates
    context: MethodContext
    checkpoints: Checkpoints | None

    def run(self, on_step: StepCallback | None) -> int:
        """Returns how many steps an interrupted run had done."""
        context, training, seed = self.context, self.context.training, self.context.seed
        forget_batches = draw_batches(context.forget, training.forget_batch_size, random.Random(seed))
        retain_batches = self._with_prefetch(
            draw_batches(context.retain, training.retain_batch_size, random.Random(seed + 1))
        )
        resumed_after = self._restore()
        for _ in range(resumed_after):
            for update in self.updates(next(forget_batches), next(retain_batches)):
                self.runner.replay_cache(update)
        for step in range(resumed_after + 1, context.steps + 1):
            # For dropout alone: batches and a method's noise have generators of their own.
            torch.manual_seed(step_seed(seed, step))
            loss = self._step(next(forget_batches), next(retain_batches))
            if on_step is not None:
                on_step(step, loss)
            self._save(step)
        return resumed_after

    def _with_prefetch(self, batches: Iterator[list[Pair]]) -> Iterator[list[Pair]]:
        """The same batches. With a single process, puts the next steps' pairs into the context's `prefetch` first."""
        left = self.context.steps
        while upcoming := list(islice(batches, min(left, PREFETCHED_STEPS))):
            left -= len(upcoming)
            if distributed.world_size() == 1:
                self.context.prefetch[:] = [pair for batch in upcoming for pair in batch]
            yield from upcoming

    def _step(self, forget: Sequence[Pair], retain: Sequence[Pair]) -> StepLoss:
        main_losses: dict[Role, float] = {}
        norms: list[float] = []
        [rate] = self.runner.schedule.get_last_lr()
        for update in self.updates(forget, retain):
            result = self.runner.update(update)
            norms.append(result.gradient_norm)
            for term, losses in zip(update, result.losses, strict=True):
                main_losses.setdefault(term.role, losses[0])
        self.runner.schedule.step()
        return StepLoss(main_losses.get("forget"), main_losses.get("retain"), max(norms, default=0.0), float(rate))

    def _restore(self) -> int:
        """Restores the checkpoint's state. Returns its number of steps, 0 without a checkpoint.

        Raises CheckpointUnusable in all processes unless all find the same checkpoint.
        """
        found = self.checkpoints.load() if self.checkpoints is not None else None
        if len(set(distributed.all_gather(found.step if found is not None else 0))) > 1:
            raise CheckpointUnusable("not every process finds the checkpoint: its folder must be one they share")
        if found is None:
            return 0
        self.runner.restore(found)
        log.info("resuming after step %d", found.step)
        return found.step

    def _save(self, step: int) -> None:
        """Saves a checkpoint if one is due. Raises RunStopped if a stop is requested."""
        if self.checkpoints is None or not distributed.is_main():
            return
        # One of several processes can't stop alone: the others would wait for it in the next step.
        stopped = distributed.world_size() == 1 and self.checkpoints.stop_requested()
        if stopped or step == self.context.steps or self.checkpoints.due:
            self.checkpoints.save(self.runner.checkpoint(step))
        if stopped:
            raise RunStopped(f"stopped after step {step}, as asked")


def step_seed(seed: int, step: int) -> int:
    """The seed of dropout in this step and process. It doesn't depend on earlier steps, so runs can resume."""
    return random.Random(f"{seed}/{step}/{distributed.rank()}").getrandbits(63)


def layer_compiler() -> Compiler:
    """torch.compile for decoder layers, which share one compilation for each shape and direction."""
    # Beyond torch's default limit of 8 recompilations, layers would run uncompiled.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_COMPILATIONS)
    return partial(torch.compile, dynamic=False)


def _compiler(base: BaseModel, config: UnlearnConfig, forget: PairSet) -> Compiler | None:
    """A compiler, if the run is on CUDA and long enough to earn back the half minute that compiling takes.

    None with a sharded base, where a compilation that fails in one process would end the run.
    """
    if base.device.type != "cuda" or config.training.gradient_checkpointing or base.sharded:
        return None
    return layer_compiler() if forward_passes(config, len(forget)) >= MIN_PASSES_TO_COMPILE else None
