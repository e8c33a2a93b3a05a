"""Optimiser steps: gradients of an update over micro-batches and processes, and AdamW."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from peft import PeftModel
from torch import nn

from vgid_core.config import UnlearnConfig
from vgid_core.data.examples import DistillExample
from vgid_core.errors import TrainingDiverged
from vgid_core.methods.loss_terms import Update
from vgid_core.models import distributed
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.checkpoints import Checkpoint
from vgid_core.training.memory import free_memory
from vgid_core.training.optimiser import MasterAdamW

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpdateLosses:
    """An update's unweighted losses by term and part, means over answer tokens or pairs; and its gradient's norm."""

    losses: Sequence[tuple[float, ...]]
    gradient_norm: float


class UpdateRunner:
    """Runs a method's updates: each is one optimiser step on the sum of its loss terms.

    Splits the examples into micro-batches, and over the processes of a run.
    """

    def __init__(
        self,
        scorer: Scorer,
        student: PeftModel,
        config: UnlearnConfig,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        """rate: the learning rate's factor at each step (0-based), by default 1."""
        self._scorer = scorer
        self._training = config.training
        self._lockstep = config.shard_base
        self._parameters = [p for p in student.parameters() if p.requires_grad]
        self._optimizer = MasterAdamW(self._parameters, config.training)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer.inner, rate or (lambda _: 1.0))
        self.micro_batch_size = config.training.micro_batch_size

    def accumulate(self, update: Update) -> UpdateLosses:
        """Accumulates the gradient of an update's loss, micro-batch by micro-batch, without an optimiser step."""
        return self._reduce(self._backward(update))

    def update(self, update: Update) -> UpdateLosses:
        """Makes one optimiser step.

        If memory runs out, halves the micro-batch size for the rest of the run and starts over; raises OutOfMemoryError
        if one pair is too much. Raises TrainingDiverged, before changing a weight, if a loss or gradient isn't finite.
        """
        result = self._backward_within_memory(update)
        values = [result.gradient_norm, *(value for parts in result.losses for value in parts)]
        if not torch.isfinite(torch.tensor(values)).all():
            raise TrainingDiverged("a loss or gradient is not a finite number; try a lower learning rate")
        if self._training.gradient_clip is not None:
            norm = torch.tensor(result.gradient_norm)
            nn.utils.clip_grads_with_norm_(self._parameters, self._training.gradient_clip, norm)
        self._optimizer.step()
        return result

    def replay_cache(self, update: Update) -> None:
        """Fills the scorer's caches as computing this update would, for a run that resumes after it."""
        for term in update:
            for examples, _ in self._micro_batches(term.examples):
                self._scorer.replay_cache(partial(term.values, examples))

    def checkpoint(self, step: int) -> Checkpoint:
        """The state from which `restore` continues after this step."""
        state = {name: value for name, value in self.schedule.state_dict().items() if name != "lr_lambdas"}
        return Checkpoint(step, self.micro_batch_size, state, self._optimizer.state())

    def restore(self, found: Checkpoint) -> None:
        """Restores adapter, optimiser, schedule and micro-batch size. Raises CheckpointUnusable."""
        self._optimizer.restore(found.tensors)
        self.schedule.load_state_dict({**found.schedule, "lr_lambdas": [None]})
        for group, rate in zip(self._optimizer.inner.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.micro_batch_size = found.micro_batch_size

    def _backward_within_memory(self, update: Update) -> UpdateLosses:
        """The update's gradient and losses, with smaller micro-batches if memory runs out."""
        while True:
            self._optimizer.zero_grad()
            largest = max((len(distributed.local_shard(term.examples)[0]) for term in update), default=0)
            try:
                losses = self._backward(update)
            except torch.OutOfMemoryError:
                # Processes with a sharded base make their passes in lockstep, so none can start over alone.
                if min(self.micro_batch_size, largest) <= 1 or self._lockstep:
                    raise
            else:
                # Outside the try: a process that retried the reduction would be one collective ahead of the others.
                return self._reduce(losses)
            # Outside of the handler: its traceback keeps the tensors that filled the memory alive.
            self.micro_batch_size = min(self.micro_batch_size, largest) // 2
            log.warning("out of memory: going on with micro-batches of %d", self.micro_batch_size)
            free_memory()

    def _backward(self, update: Update) -> list[list[float]]:
        """Accumulates the gradient of this process's examples; returns their contributions to the losses."""
        losses = [[0.0] * len(term.parts) for term in update]
        for term, sums in zip(update, losses, strict=True):
            tokens = sum(len(self._scorer.answer_ids(example.pair.answer)) for example in term.examples)
            counts = [tokens if part.per == "token" else len(term.examples) for part in term.parts]
            for examples, weight in self._micro_batches(term.examples):
                values = term.values(examples)
                means = [weight * value.sum() / count for value, count in zip(values, counts, strict=True)]
                total = sum(part.weight * mean for part, mean in zip(term.parts, means, strict=True))
                total.backward()  # type: ignore[union-attr]
                for index, mean in enumerate(means):
                    sums[index] += float(mean.detach())
        return losses

    def _micro_batches(self, examples: Sequence[DistillExample]) -> Iterator[tuple[Sequence[DistillExample], float]]:
        """This process's micro-batches, each with its weight.

        All processes get equally many, since with a sharded base they make their passes together. A process without
        examples left gets another process's example with weight 0.
        """
        own, largest = distributed.local_shard(examples)
        for start in range(0, largest, self.micro_batch_size):
            part = own[start : start + self.micro_batch_size]
            yield (part, 1.0) if part else (examples[:1], 0.0)

    def _reduce(self, losses: Sequence[list[float]]) -> UpdateLosses:
        """Sums gradients, in place, and losses over all processes."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        flat = torch.tensor([value for sums in losses for value in sums], device=self._parameters[0].device)
        distributed.all_reduce([*gradients, flat])
        values = iter(flat.tolist() if distributed.world_size() > 1 else [value for sums in losses for value in sums])
        norm = nn.utils.get_total_norm(gradients)
        return UpdateLosses([tuple(next(values) for _ in sums) for sums in losses], float(norm))
