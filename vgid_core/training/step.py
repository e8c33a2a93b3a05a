"""One update after another: gradients over micro-batches, in as many processes as share the run, and the optimiser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from vgid_core.training.memory import let_go
from vgid_core.training.optimiser import MasterAdamW

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLoss:
    """An update's losses, by term and part, before their weights; and the norm of its weighted gradient.

    The first part of VGID's terms is the divergence, in nats per answer token; per pair where it is of all positions.
    """

    losses: Sequence[tuple[float, ...]]
    gradient_norm: float


class StepRunner:
    """A step's loss over micro-batches, and the optimiser. Where processes share a run, each computes its share."""

    def __init__(
        self,
        scorer: Scorer,
        student: PeftModel,
        config: UnlearnConfig,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        """`rate` is the learning rate's factor at each 0-based step; always 1, if not given."""
        self._scorer = scorer
        self._training = config.training
        self._in_step = config.shard_base
        self._parameters = [p for p in student.parameters() if p.requires_grad]
        self._optimizer = MasterAdamW(self._parameters, config.training)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer.inner, rate or (lambda _: 1.0))
        self.micro_batch_size = config.training.micro_batch_size

    def accumulate(self, update: Update) -> BatchLoss:
        """Adds the gradient of an update's loss, a micro-batch at a time: their number changes memory alone."""
        return self._of_all_processes(self._of_own_examples(update))

    def update(self, update: Update) -> BatchLoss:
        """One optimiser step. Raises TrainingDiverged before any weight is spoilt.

        Where memory doesn't suffice, it begins anew with micro-batches half as large, for the rest of the run. Raises
        OutOfMemoryError when one pair is too much.
        """
        result = self._gradient(update)
        figures = [result.gradient_norm, *(value for parts in result.losses for value in parts)]
        if not torch.isfinite(torch.tensor(figures)).all():
            raise TrainingDiverged("a loss or gradient is not a finite number; try a lower learning rate")
        if self._training.gradient_clip is not None:
            norm = torch.tensor(result.gradient_norm)
            nn.utils.clip_grads_with_norm_(self._parameters, self._training.gradient_clip, norm)
        self._optimizer.step()
        return result

    def recall(self, update: Update) -> None:
        """Leaves behind what computing an update would have left for later ones: what the scorer keeps of the base."""
        for term in update:
            for examples, _ in self._micro_batches(term.examples):
                self._scorer.replay_cache(partial(term.values, examples))

    def checkpoint(self, step: int, checks: Sequence[Mapping[str, object]]) -> Checkpoint:
        """What `restore` needs to go on after this step."""
        state = {name: value for name, value in self.schedule.state_dict().items() if name != "lr_lambdas"}
        return Checkpoint(step, self.micro_batch_size, state, checks, self._optimizer.state())

    def restore(self, found: Checkpoint) -> None:
        """Puts adapter, optimiser, schedule and micro-batch size where they were. Raises CheckpointUnusable."""
        self._optimizer.restore(found.tensors)
        self.schedule.load_state_dict({**found.schedule, "lr_lambdas": [None]})
        for group, rate in zip(self._optimizer.inner.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.micro_batch_size = found.micro_batch_size

    def _gradient(self, update: Update) -> BatchLoss:
        while True:
            self._optimizer.zero_grad()
            largest = max((len(distributed.local_shard(term.examples)[0]) for term in update), default=0)
            try:
                losses = self._of_own_examples(update)
            except torch.OutOfMemoryError:
                # Processes that pass through a shared base in step can't begin anew one by one.
                if min(self.micro_batch_size, largest) <= 1 or self._in_step:
                    raise
            else:
                # Not to be tried again: a process that added up twice would be out of step with the others.
                return self._of_all_processes(losses)
            # Outside of the handler: its frames hold the tensors that filled the memory.
            self.micro_batch_size = min(self.micro_batch_size, largest) // 2
            log.warning("out of memory: going on with micro-batches of %d", self.micro_batch_size)
            let_go()

    def _of_own_examples(self, update: Update) -> list[list[float]]:
        """Adds what this process's share of the examples gives of the gradient; returns what it gives of the losses."""
        losses = [[0.0] * len(term.parts) for term in update]
        for term, sums in zip(update, losses, strict=True):
            tokens = sum(len(self._scorer.answer_ids(example.pair.answer)) for example in term.examples)
            counts = [tokens if part.per == "token" else len(term.examples) for part in term.parts]
            for examples, counted in self._micro_batches(term.examples):
                values = term.values(examples)
                means = [counted * value.sum() / count for value, count in zip(values, counts, strict=True)]
                total = sum(part.weight * mean for part, mean in zip(term.parts, means, strict=True))
                total.backward()  # type: ignore[union-attr]
                for index, mean in enumerate(means):
                    sums[index] += float(mean.detach())
        return losses

    def _micro_batches(self, examples: Sequence[DistillExample]) -> Iterator[tuple[Sequence[DistillExample], float]]:
        """This process's examples, a few at a time, each with how much it counts.

        There are as many in every process, since these may share the base's weights: one that has no examples left
        computes another's, which counts nothing.
        """
        mine, most = distributed.local_shard(examples)
        for start in range(0, most, self.micro_batch_size):
            part = mine[start : start + self.micro_batch_size]
            yield (part, 1.0) if part else (examples[:1], 0.0)

    def _of_all_processes(self, losses: Sequence[list[float]]) -> BatchLoss:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        figures = torch.tensor([value for sums in losses for value in sums], device=self._parameters[0].device)
        distributed.all_reduce([*gradients, figures])
        values = iter(
            figures.tolist() if distributed.world_size() > 1 else [value for sums in losses for value in sums]
        )
        norm = nn.utils.get_total_norm(gradients)
        return BatchLoss([tuple(next(values) for _ in sums) for sums in losses], float(norm))
