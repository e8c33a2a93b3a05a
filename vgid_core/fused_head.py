"""Output layer and loss in one step: the logits of a few hundred tokens at a time, never all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_CHUNK = 512  # tokens whose logits are held at once


class _LinearKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        values = torch.empty(len(student), device=student.device, dtype=torch.float32)
        gradient = torch.empty_like(student) if student.requires_grad else None
        for start in range(0, len(student), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            log_q = (student[part] @ weight.T).float().log_softmax(-1)
            log_p = (teacher[part] @ weight.T).float().log_softmax(-1)
            p = log_p.exp()
            values[part] = (p * (log_p - log_q)).sum(-1)
            if gradient is not None:
                gradient[part] = (log_q.exp() - p).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].unsqueeze(-1).to(gradient.dtype), None, None


def linear_kl(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """KL(teacher || student) of `softmax(states @ weight.T)`, in nats; the gradient reaches `student` alone.

    Args: student, teacher [tokens, hidden]; weight [vocabulary, hidden], frozen. Returns [tokens], float32. The same
    as `losses.token_kl` on the logits, with memory for 512 tokens' logits instead of all.
    """
    result: Tensor = _LinearKL.apply(student, teacher, weight)  # type: ignore[no-untyped-call]
    return result


class _LinearLogProbability(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
        values = torch.empty(len(states), device=states.device, dtype=torch.float32)
        gradient = torch.empty_like(states) if states.requires_grad else None
        for start in range(0, len(states), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            log_q = (states[part] @ weight.T).float().log_softmax(-1)
            values[part] = log_q.gather(-1, ids[part, None])[:, 0]
            if gradient is not None:
                gradient[part] = weight[ids[part]] - log_q.exp().to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].unsqueeze(-1).to(gradient.dtype), None, None


def linear_log_probability(states: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
    """log p(token) under `softmax(states @ weight.T)`, in nats; the gradient reaches `states` alone.

    Args: states [tokens, hidden]; ids [tokens]; weight [vocabulary, hidden], frozen. Returns [tokens], float32. The
    same as `losses.token_log_probability` on the logits, with memory for 512 tokens' logits instead of all.
    """
    result: Tensor = _LinearLogProbability.apply(states, ids, weight)  # type: ignore[no-untyped-call]
    return result
