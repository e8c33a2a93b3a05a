"""The distillation: a student with LoRA learns what the disturbed, instructed base would have said.

VGID (arXiv 2606.00105): alpha * E_f KL(p_T || p_theta) + beta * E_r KL(p_base || p_theta) on answer tokens. As in
the authors' code, each step updates once on a forget batch and once on a retain batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn

from vgid_core.base_model import BaseModel, answer_logits, attach_adapter
from vgid_core.config import TrainingConfig, UnlearnConfig
from vgid_core.data import Pair, PairSet
from vgid_core.encoding import Batch, PromptEncoder
from vgid_core.errors import TrainingDiverged
from vgid_core.losses import mean_over_answers, token_kl
from vgid_core.perturb import perturb


@dataclass(frozen=True)
class BatchLoss:
    """One update's loss (nats per answer token, before its weight) and the norm of its weighted gradient."""

    loss: float
    gradient_norm: float


StepCallback = Callable[[int, BatchLoss, BatchLoss | None], None]


def distil(
    base: BaseModel, forget: PairSet, retain: PairSet, config: UnlearnConfig, on_step: StepCallback | None = None
) -> PeftModel:
    """Trains an adapter on `base` and returns the student, in evaluation mode, its adapter switched on.

    The base's weights are never touched. The same seed, data, machine and thread count give the same adapter; the
    caller's random state is left as it was. Raises TrainingDiverged when a loss stops being finite.
    """
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        student = attach_adapter(base, config.lora)
        trainer = Distiller(base.encoder, student, config)
        student.train(config.lora.dropout > 0)
        forget_batches = draw_batches(forget, config.training.forget_batch_size, random.Random(config.seed))
        retain_batches = draw_batches(retain, config.training.retain_batch_size, random.Random(config.seed + 1))
        for step in range(1, config.training.steps + 1):
            forget_loss = trainer.update(next(forget_batches), trainer.forget_loss, config.training.forget_weight)
            retain_loss = None
            if config.training.retain_weight > 0:
                retain_loss = trainer.update(next(retain_batches), trainer.retain_loss, config.training.retain_weight)
            trainer.schedule.step()
            if on_step is not None:
                on_step(step, forget_loss, retain_loss)
    return student.eval()


def draw_batches(items: PairSet, size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Endless batches of `size` pairs: shuffled passes over the set, each pair once a pass."""
    queue: list[Pair] = []
    while True:
        while len(queue) < size:
            queue += rng.sample(items.pairs, len(items.pairs))
        yield queue[:size]
        queue = queue[size:]


class Distiller:
    """The two loss terms and the optimiser step over micro-batches."""

    def __init__(self, encoder: PromptEncoder, student: PeftModel, config: UnlearnConfig) -> None:
        self._encoder = encoder
        self._student = student
        self._intervention = config.intervention
        self._training = config.training
        self._noise = torch.Generator().manual_seed(config.seed)
        self._parameters = [p for p in student.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=config.training.learning_rate, weight_decay=config.training.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, warm_up_then_decay(config.training))

    def forget_loss(self, pairs: Sequence[Pair], total_tokens: int) -> Tensor:
        """KL from the disturbed, instructed teacher to the student on the clean item: this micro-batch's share."""
        images = [pair.image.decode() for pair in pairs]
        questions = [pair.question for pair in pairs]
        answers = [pair.answer for pair in pairs]
        noised = [perturb(image, self._intervention.perturbation, self._noise) for image in images]
        instructed = [self._intervention.instructed(question) for question in questions]
        teacher = self._encoder.batch(noised, instructed, answers)
        student = self._encoder.batch(images, questions, answers)
        return self._divergence(teacher, student, total_tokens)

    def retain_loss(self, pairs: Sequence[Pair], total_tokens: int) -> Tensor:
        """KL from the base to the student, both on the clean item: this micro-batch's share."""
        batch = self._encoder.batch(
            [pair.image.decode() for pair in pairs],
            [pair.question for pair in pairs],
            [pair.answer for pair in pairs],
        )
        return self._divergence(batch, batch, total_tokens)

    def accumulate(
        self, pairs: Sequence[Pair], term: Callable[[Sequence[Pair], int], Tensor], weight: float
    ) -> BatchLoss:
        """Adds the gradient of `weight * term(pairs)`, a micro-batch at a time: their number changes memory alone."""
        total_tokens = sum(len(self._encoder.answer_ids(pair.answer)) for pair in pairs)
        loss = 0.0
        for start in range(0, len(pairs), self._training.micro_batch_size):
            share = term(pairs[start : start + self._training.micro_batch_size], total_tokens)
            (weight * share).backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        return BatchLoss(loss, float(norm))

    def update(self, pairs: Sequence[Pair], term: Callable[[Sequence[Pair], int], Tensor], weight: float) -> BatchLoss:
        """One optimiser step on `weight * term(pairs)`. Raises TrainingDiverged before any weight is spoilt."""
        self._optimizer.zero_grad(set_to_none=True)
        result = self.accumulate(pairs, term, weight)
        if not (torch.isfinite(torch.tensor([result.loss, result.gradient_norm])).all()):
            raise TrainingDiverged("a loss or gradient is not a finite number; try a lower learning rate")
        if self._training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._training.gradient_clip)
        self._optimizer.step()
        return result

    def _divergence(self, teacher: Batch, student: Batch, total_tokens: int) -> Tensor:
        with torch.no_grad():
            target = answer_logits(self._student, teacher, adapter_on=False)
        values = token_kl(target, answer_logits(self._student, student))
        return mean_over_answers(values, student.answer_mask, total_tokens)


def warm_up_then_decay(training: TrainingConfig) -> Callable[[int], float]:
    """Learning-rate factor of a 0-based step: linear up over the warm-up, linear down to a tenth at the end."""

    def factor(step: int) -> float:
        up = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
        down = 1.0 - 0.9 * step / training.steps
        return min(1.0, up) * max(0.1, down)

    return factor
