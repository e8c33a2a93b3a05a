"""Losses as pure functions on logits of answer tokens: tensors in, tensors out, float32 inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from vgid_core.losses.top_k import TopKDistribution


def token_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) at each position, in nats (VGID, arXiv 2606.00105, the summand of both loss terms).

    Args: two tensors [batch, answer_length, vocabulary] of any float dtype. Returns [batch, answer_length], float32.
    """
    teacher = functional.log_softmax(teacher_logits.float(), dim=-1)
    student = functional.log_softmax(student_logits.float(), dim=-1)
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def token_kl_of_top_k(target: TopKDistribution, student_logits: Tensor) -> Tensor:
    """KL(target || student) at each position, in nats.

    Args: student_logits [positions, vocabulary] of any float dtype. Returns [positions], float32.
    """
    student = functional.log_softmax(student_logits.float(), dim=-1)
    return functional.kl_div(student, target.whole(student.shape[-1]), reduction="none").sum(dim=-1)


def huber(values: Tensor) -> Tensor:
    """x^2 / 2 up to one, |x| - 1/2 beyond, element by element."""
    return functional.huber_loss(values, torch.zeros_like(values), reduction="none")


def token_log_probability(logits: Tensor, answer_ids: Tensor) -> Tensor:
    """log p(answer token) at each position, in nats.

    Args: logits [..., vocabulary]; answer_ids of the same shape without the last axis, which is what it returns.
    """
    picked = logits.float().gather(-1, answer_ids.unsqueeze(-1)).squeeze(-1)
    return picked - logits.float().logsumexp(dim=-1)


def token_cross_entropy(target_logits: Tensor, student_logits: Tensor) -> Tensor:
    """H(softmax(target), softmax(student)) at each position, in nats; unlike KL it doesn't end at zero.

    Args: two tensors [..., vocabulary] of any float dtype. Returns [...], float32.
    """
    target = functional.softmax(target_logits.float(), dim=-1)
    return -(target * functional.log_softmax(student_logits.float(), dim=-1)).sum(dim=-1)


def negative_preference(log_ratio: Tensor, inverse_temperature: float) -> Tensor:
    """-(2/b) log sigmoid(-b * log_ratio), element by element (NPO, arXiv 2404.05868, eq. 3), b the inverse temperature.

    log_ratio: log p_theta - log p_base of whole answers, in nats.
    """
    return -2 / inverse_temperature * functional.logsigmoid(-inverse_temperature * log_ratio)


def sum_by_row(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sums of consecutive stretches: values [sum of lengths], returns [len(lengths)], float32."""
    return torch.stack([row.sum() for row in torch.split(values.float(), list(lengths))])


def talked_down(logits: Tensor, ids: Sequence[int], amount: float) -> Tensor:
    """`logits` [tokens, vocabulary] in float32, lowered by `amount` at each row's own token of `ids`."""
    places = torch.tensor(ids, device=logits.device)[:, None]
    return logits.float().scatter_add(-1, places, torch.full_like(places, -amount, dtype=torch.float32))


def mean_square(states: Tensor, target: Tensor) -> Tensor:
    """Mean over the last axis of (states - target)^2: [..., hidden] gives [...], float32."""
    return (states.float() - target.float()).square().mean(dim=-1)


def random_direction(width: int, seed: int) -> Tensor:
    """A unit vector [width] with no negative entry, on the host (RMU's u; arXiv 2403.03218, the authors' code)."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=0)
