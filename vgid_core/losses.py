"""Losses as pure functions on logits of answer tokens: tensors in, tensors out, float32 inside."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor


def token_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) at each position, in nats (VGID, arXiv 2606.00105, the summand of both loss terms).

    Args: two tensors [batch, answer_length, vocabulary] of any float dtype. Returns [batch, answer_length], float32.
    """
    teacher = functional.log_softmax(teacher_logits.float(), dim=-1)
    student = functional.log_softmax(student_logits.float(), dim=-1)
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def token_log_probability(logits: Tensor, answer_ids: Tensor) -> Tensor:
    """log p(answer token) at each position, in nats.

    Args: logits [..., vocabulary]; answer_ids of the same shape without the last axis, which is what it returns.
    """
    picked = logits.float().gather(-1, answer_ids.unsqueeze(-1)).squeeze(-1)
    return picked - logits.float().logsumexp(dim=-1)
