"""Output projection and loss fused: the logits of HEAD_CHUNK tokens at a time, never all of them.

Why: with large vocabularies a batch's logits take more memory than the model's activations. How: the forward pass
computes each chunk's loss and its gradient with respect to the hidden states, and keeps only these. Trade-off: the
output matrix gets no gradient, so it can't be trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vgid_core.losses.top_k import TopKDistribution

HEAD_CHUNK = 512  # tokens

# The target distributions of a slice of positions: [positions, vocabulary], float32.
TargetRows = Callable[[slice], Tensor]


class _LinearKL(torch.autograd.Function):
    """KL(target || student) and, given `ids`, the student's log p of them. The forward pass computes the gradients."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, target: TargetRows, ids: Tensor | None, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        divergence = torch.empty(len(student), device=student.device, dtype=torch.float32)
        log_prob = torch.zeros_like(divergence)
        needed = student.requires_grad
        kl_gradient = torch.empty_like(student) if needed else None
        log_prob_gradient = torch.empty_like(student) if needed and ids is not None else None
        for start in range(0, len(student), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            log_q = (student[part] @ weight.T).float().log_softmax(-1)
            p = target(part)
            divergence[part] = torch.nn.functional.kl_div(log_q, p, reduction="none").sum(-1)
            q = log_q.exp()
            if log_prob_gradient is not None and ids is not None:
                log_prob_gradient[part] = weight[ids[part]] - q.to(weight.dtype) @ weight
            if kl_gradient is not None:
                kl_gradient[part] = (q - p).to(weight.dtype) @ weight
            if ids is not None:
                log_prob[part] = log_q.gather(-1, ids[part, None])[:, 0]
        ctx.save_for_backward(kl_gradient, log_prob_gradient)
        return divergence, log_prob

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, None, None, None]:
        kl_gradient, log_prob_gradient = ctx.saved_tensors
        gradient = kl_gradient * outputs[0].unsqueeze(-1).to(kl_gradient.dtype)
        if log_prob_gradient is not None:
            gradient += log_prob_gradient * outputs[1].unsqueeze(-1).to(log_prob_gradient.dtype)
        return gradient, None, None, None


def linear_kl(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """KL(teacher || student) between the distributions softmax(states @ weight.T), in nats.

    Args: student, teacher: hidden states [tokens, hidden]; weight [vocabulary, hidden]. Returns [tokens], float32. Only
    `student` gets a gradient. Equals `token_kl` on the logits with memory for HEAD_CHUNK tokens' logits.
    """

    def target(part: slice) -> Tensor:
        return (teacher[part] @ weight.T).float().softmax(-1)

    result: Tensor = _LinearKL.apply(student, target, None, weight)[0]  # type: ignore[no-untyped-call, unused-ignore]
    return result


def linear_kl_and_logprob(
    student: Tensor, target: TopKDistribution, ids: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(target || student) and the student's log p of `ids` [tokens] in one pass; both [tokens], float32, in nats.

    Other arguments are as in `linear_kl`. Equals `token_kl_of_top_k` and `token_log_probability` on the logits.
    """

    def dense(part: slice) -> Tensor:
        return target.dense(len(weight), part)

    both: tuple[Tensor, Tensor]
    both = _LinearKL.apply(student, dense, ids, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return both


class _LinearLogProbability(torch.autograd.Function):
    """log p of token ids under softmax(states @ weight.T). The forward pass computes the gradient."""

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
    """log p(token) under softmax(states @ weight.T), in nats.

    Args: states [tokens, hidden]; ids [tokens]; weight [vocabulary, hidden]. Returns [tokens], float32. Only `states`
    gets a gradient. Equals `token_log_probability` on the logits with memory for HEAD_CHUNK tokens' logits.
    """
    result: Tensor = _LinearLogProbability.apply(states, ids, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return result
