"""Losses at answer tokens as pure functions of logits, computed in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from vgid_core.losses.top_k import TopKDistribution


def token_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) at each position, in nats: the summand of VGID's loss terms (arXiv 2606.00105).

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
    return functional.kl_div(student, target.dense(student.shape[-1]), reduction="none").sum(dim=-1)


def huber(values: Tensor) -> Tensor:
    """Huber's loss with threshold 1, element by element: x^2 / 2 up to |x| = 1, |x| - 1/2 beyond."""
    return functional.huber_loss(values, torch.zeros_like(values), reduction="none")


def token_log_probability(logits: Tensor, answer_ids: Tensor) -> Tensor:
    """log p(answer token) at each position, in nats.

    Args: logits [..., vocabulary]; answer_ids [...]. Returns [...], float32.
    """
    picked = logits.float().gather(-1, answer_ids.unsqueeze(-1)).squeeze(-1)
    return picked - logits.float().logsumexp(dim=-1)


def token_cross_entropy(target_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Cross-entropy H(softmax(target), softmax(student)) at each position, in nats. Its minimum isn't zero.

    Args: two tensors [..., vocabulary] of any float dtype. Returns [...], float32.
    """
    target = functional.softmax(target_logits.float(), dim=-1)
    return -(target * functional.log_softmax(student_logits.float(), dim=-1)).sum(dim=-1)


def negative_preference(log_ratio: Tensor, inverse_temperature: float) -> Tensor:
    """NPO's loss -(2/b) log sigmoid(-b * log_ratio), element by element (arXiv 2404.05868, eq. 3).

    b: the inverse temperature. log_ratio: log p_theta - log p_base of whole answers, in nats.
    """
    return -2 / inverse_temperature * functional.logsigmoid(-inverse_temperature * log_ratio)


def segment_sums(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sums of consecutive segments: values [sum(lengths)] gives [len(lengths)], float32."""
    return torch.stack([row.sum() for row in torch.split(values.float(), list(lengths))])


def lower_logits(logits: Tensor, ids: Sequence[int], amount: float) -> Tensor:
    """Lowers logits [tokens, vocabulary] by `amount` at each row's token of `ids`. Returns float32."""
    index = torch.tensor(ids, device=logits.device)[:, None]
    return logits.float().scatter_add(-1, index, torch.full_like(index, -amount, dtype=torch.float32))


def mean_square(states: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference over the last axis: [..., hidden] gives [...], float32."""
    return (states.float() - target.float()).square().mean(dim=-1)


def relative_square_distance(states: Tensor, origin: Tensor) -> Tensor:
    """|states - origin|^2 / |origin|^2 over the last axis: [..., hidden] gives [...], float32."""
    return mean_square(states, origin) / origin.float().square().mean(dim=-1)


def random_direction(width: int, seed: int) -> Tensor:
    """RMU's random unit vector u [width] with no negative entry, on the host (arXiv 2403.03218, the authors' code)."""
    direction = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(direction, dim=0)
