"""The distillation: a student with LoRA is updated as a method says, step by step (`vgid_core.methods`)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from peft import PeftModel

from vgid_core.config import UnlearnConfig
from vgid_core.data.batches import draw_batches
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.errors import CheckpointUnusable, RunStopped
from vgid_core.lora.attach import attach_adapter
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
from vgid_core.training.early_stop import Watch
from vgid_core.training.forward_cost import PASSES_WORTH_COMPILING, run_passes
from vgid_core.training.optimiser import learning_rate
from vgid_core.training.recompute import recomputed_layers
from vgid_core.training.step import StepRunner

log = logging.getLogger(__name__)

_MOST_COMPILATIONS = 64
_STEPS_SEEN = 4  # whose retain targets are computed together


@dataclass(frozen=True)
class Distilled:
    """A trained student, and by which scorer its loss was computed: packed or plain (see `vgid_core.scoring.choose`).

    steps: how many it was trained for, of which `resumed_after` were an interrupted run's. micro_batch_size: the one at
    the end. stop_reason: "steps-done" or "targets-held".
    """

    student: PeftModel
    scorer: str
    steps: int
    stop_reason: str
    micro_batch_size: int
    resumed_after: int


@dataclass(frozen=True)
class StepLoss:
    """What a step's leading losses were: the first part of the first term of each role, None where it has no term.

    gradient_norm: the largest of the step's updates, before clipping. learning_rate: the one that the step was made at.
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
    watch: Watch | None = None,
    checkpoints: Checkpoints | None = None,
    strangers: Sequence[EncodedImage] = (),
    unlabelled: Sequence[EncodedImage] = (),
) -> Distilled:
    """Trains an adapter on `base`. The student comes back in evaluation mode, its adapter switched on.

    The base's weights are never touched. The same seed, data, machine and thread count give the same adapter, also when
    the run was interrupted and goes on from its `checkpoints`; the caller's random state is left as it was. `watch` may
    end it early. Raises TrainingDiverged when a loss stops being finite, CheckpointUnusable (see `Checkpoints.load`),
    RunStopped (see `Checkpoints`). `strangers` are photos of people whom the model has never seen, for methods whose
    teachers see them; `unlabelled` ones show anybody, and what the base says of them is to stay.
    """
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        student = attach_adapter(
            base, config.lora, config.method.trainable_layers(len(base.model.get_decoder().layers))
        )
        layers = recomputed_layers(base.model) if config.training.gradient_checkpointing else nullcontext()
        with fp8_products(student, base.device) if config.training.fp8 else nullcontext(), layers:
            compiler = _compiler(base, config, forget)
            rounding = FP8_ROUNDING if config.training.fp8 else None
            scorer = choose_scorer(base, probe_pairs([forget, retain]), config.lora, compiler, rounding)
            steps = config.training.steps_for(len(forget))
            trainer = StepRunner(scorer, student, config, learning_rate(config.training, steps))
            student.train(config.lora.dropout > 0)
            given = MethodContext(base, scorer, config.training, config.seed, forget, retain, strangers, unlabelled)
            loop = _Loop(trainer, setup(config.method, given), given, watch, checkpoints)
            resumed_after, steps = loop.run(on_step)
    reason = "targets-held" if watch is not None and watch.held else "steps-done"
    return Distilled(student.eval(), scorer.name, steps, reason, trainer.micro_batch_size, resumed_after)


@dataclass(frozen=True)
class _Loop:
    """Step after step, from where an interrupted run stood to the last one or to where the targets hold."""

    trainer: StepRunner
    updates: MakeUpdates
    given: MethodContext
    watch: Watch | None
    checkpoints: Checkpoints | None

    def run(self, on_step: StepCallback | None) -> tuple[int, int]:
        """How many steps an interrupted run had done, and how many are done now."""
        training, seed, forget, retain = self.given.training, self.given.seed, self.given.forget, self.given.retain
        forget_batches = draw_batches(forget, training.forget_batch_size, random.Random(seed))
        retain_batches = self._announced(draw_batches(retain, training.retain_batch_size, random.Random(seed + 1)))
        done = begun = self._restore()
        for _ in range(begun):
            for update in self.updates(next(forget_batches), next(retain_batches)):
                self.trainer.recall(update)
        while done < self.given.steps and not (self.watch and self.watch.held):
            done += 1
            # Dropout's alone: batches and a method's noise have generators of their own.
            torch.manual_seed(step_seed(seed, done))
            loss = self._step(next(forget_batches), next(retain_batches))
            if on_step is not None:
                on_step(done, loss)
            if self.watch is not None:
                self.watch.after(done)
            self._save(done)
        return begun, done

    def _announced(self, batches: Iterator[list[Pair]]) -> Iterator[list[Pair]]:
        """The same batches; in a run of one process, whose they all are, some of them are seen in `coming` before."""
        left = self.given.steps
        while some := list(islice(batches, min(left, _STEPS_SEEN))):
            left -= len(some)
            if distributed.world_size() == 1:
                self.given.prefetch[:] = [pair for batch in some for pair in batch]
            yield from some

    def _step(self, forget: Sequence[Pair], retain: Sequence[Pair]) -> StepLoss:
        leading: dict[Role, float] = {}
        norms: list[float] = []
        [rate] = self.trainer.schedule.get_last_lr()
        for update in self.updates(forget, retain):
            result = self.trainer.update(update)
            norms.append(result.gradient_norm)
            for term, losses in zip(update, result.losses, strict=True):
                leading.setdefault(term.role, losses[0])
        self.trainer.schedule.step()
        return StepLoss(leading.get("forget"), leading.get("retain"), max(norms, default=0.0), float(rate))

    def _restore(self) -> int:
        """Puts everything where the checkpoint has it; returns after how many steps that was, 0 without one.

        Raises CheckpointUnusable in every process where they don't all find the same: they would train past each other.
        """
        found = self.checkpoints.load() if self.checkpoints is not None else None
        if len(set(distributed.all_gather(found.step if found is not None else 0))) > 1:
            raise CheckpointUnusable("not every process finds the checkpoint: its folder must be one they share")
        if found is None:
            return 0
        self.trainer.restore(found)
        if self.watch is not None:
            self.watch.restore(found.checks)
        log.info("going on after step %d", found.step)
        return found.step

    def _save(self, step: int) -> None:
        """Writes down what is due. Raises RunStopped if the run was asked to end here."""
        if self.checkpoints is None or not distributed.is_main():
            return
        # One of several processes can't end alone: the others would wait for its share of the next step.
        stopped = distributed.world_size() == 1 and self.checkpoints.asked_to_stop()
        last = step == self.given.steps or (self.watch is not None and self.watch.held)
        if stopped or last or self.checkpoints.due:
            checks = self.watch.as_rows() if self.watch is not None else []
            self.checkpoints.save(self.trainer.checkpoint(step, checks))
        if stopped:
            raise RunStopped(f"stopped after step {step}, as asked")


def step_seed(seed: int, step: int) -> int:
    """What dropout draws from in each step and process, whatever was drawn in the steps before."""
    return random.Random(f"{seed}/{step}/{distributed.rank()}").getrandbits(63)


def layer_compiler() -> Compiler:
    """torch.compile for decoder layers, which all share one compilation for each shape and each way through them."""
    # At torch's own limit of 8, the rest of a run would go on uncompiled.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_COMPILATIONS)
    return partial(torch.compile, dynamic=False)


def _compiler(base: BaseModel, config: UnlearnConfig, forget: PairSet) -> Compiler | None:
    """A compiler where the run is long enough to earn back the half minute that it takes.

    Not for layers that processes share: one that fails to compile in one of them would end the run.
    """
    if base.device.type != "cuda" or config.training.gradient_checkpointing or base.sharded:
        return None
    return layer_compiler() if run_passes(config, len(forget)) >= PASSES_WORTH_COMPILING else None
