"""Output layer and loss in one step: the logits of a few hundred tokens at a time, never all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vgid_core.losses.top_k import TopKDistribution

HEAD_CHUNK = 512  # tokens whose logits are held at once


Target = Callable[[slice], Tensor]  # whole distributions of some positions, [positions, vocabulary], float32


class _LinearKL(torch.autograd.Function):
    """KL(target || student), and with `ids` the student's log p of them; gradients are made on the way."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, target: Target, ids: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        divergence = torch.empty(len(student), device=student.device, dtype=torch.float32)
        likelihood = torch.zeros_like(divergence)
        needed = student.requires_grad
        to_teacher = torch.empty_like(student) if needed else None
        to_ids = torch.empty_like(student) if needed and ids is not None else None
        for start in range(0, len(student), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            log_q = (student[part] @ weight.T).float().log_softmax(-1)
            p = target(part)
            divergence[part] = torch.nn.functional.kl_div(log_q, p, reduction="none").sum(-1)
            pulled = log_q.exp()
            if to_ids is not None and ids is not None:
                to_ids[part] = weight[ids[part]] - pulled.to(weight.dtype) @ weight
            if to_teacher is not None:
                to_teacher[part] = (pulled - p).to(weight.dtype) @ weight
            if ids is not None:
                likelihood[part] = log_q.gather(-1, ids[part, None])[:, 0]
        ctx.save_for_backward(to_teacher, to_ids)
        return divergence, likelihood

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, None, None, None]:
        to_teacher, to_ids = ctx.saved_tensors
        gradient = to_teacher * outputs[0].unsqueeze(-1).to(to_teacher.dtype)
        if to_ids is not None:
            gradient += to_ids * outputs[1].unsqueeze(-1).to(to_ids.dtype)
        return gradient, None, None, None


def linear_kl(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """KL(teacher || student) of `softmax(states @ weight.T)`, in nats; the gradient reaches `student` alone.

    Args: student, teacher [tokens, hidden]; weight [vocabulary, hidden], frozen. Returns [tokens], float32. The same
    as `losses.token_kl` on the logits, with memory for 512 tokens' logits instead of all.
    """

    def target(part: slice) -> Tensor:
        return (teacher[part] @ weight.T).float().softmax(-1)

    result: Tensor = _LinearKL.apply(student, target, None, weight)[0]  # type: ignore[no-untyped-call, unused-ignore]
    return result


def linear_kl_and_logprob(
    student: Tensor, target: TopKDistribution, ids: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(target || student), and the student's log p of `ids` [tokens], in one pass.

    Otherwise as `linear_kl`: the same as `losses.token_kl_of_top_k` and `losses.token_log_probability`.
    """

    def whole(part: slice) -> Tensor:
        return target.whole(len(weight), part)

    both: tuple[Tensor, Tensor]
    both = _LinearKL.apply(student, whole, ids, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return both


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
    result: Tensor = _LinearLogProbability.apply(states, ids, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return result
