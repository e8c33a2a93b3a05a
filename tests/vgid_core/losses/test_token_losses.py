"""Token losses on known distributions."""

import math

import pytest
import torch

from vgid_core.losses.token_losses import (
    lower_logits,
    negative_preference,
    segment_sums,
    token_cross_entropy,
    token_kl,
    token_log_probability,
)


def test_kl_of_two_known_distributions() -> None:
    teacher = torch.tensor([[[math.log(0.5), math.log(0.25), math.log(0.25)]]])
    student = torch.tensor([[[math.log(0.25), math.log(0.5), math.log(0.25)]]])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert token_kl(teacher, student).item() == pytest.approx(expected, abs=1e-6)
    assert token_kl(teacher, teacher).item() == 0.0


def test_kl_is_not_symmetric_and_takes_the_teacher_first() -> None:
    teacher, student = torch.tensor([[[4.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    p = math.exp(4) / (math.exp(4) + 1)
    assert token_kl(teacher, student).item() == pytest.approx(
        p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)), abs=1e-6
    )


def test_a_constant_added_to_logits_changes_nothing_and_bfloat16_is_widened_first() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 50, generator=generator), torch.randn(2, 3, 50, generator=generator)
    assert torch.allclose(token_kl(a, b), token_kl(a + 30, b - 30), atol=1e-4)
    half = token_kl(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, token_kl(a.bfloat16().float(), b.bfloat16().float()))


def test_log_probability_of_the_answer_tokens() -> None:
    logits = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    picked = token_log_probability(logits, torch.tensor([[2, 0]]))
    total = math.exp(1) + math.exp(2) + math.exp(3)
    assert picked[0].tolist() == pytest.approx([3 - math.log(total), -math.log(3)], abs=1e-6)


def test_cross_entropy_to_a_soft_target() -> None:
    target, student = torch.tensor([[math.log(0.75), math.log(0.25)]]), torch.tensor([[math.log(0.5), math.log(0.5)]])
    assert token_cross_entropy(target, student).tolist() == pytest.approx([math.log(2)])
    assert token_cross_entropy(target, target).item() > 0


def test_negative_preference_nears_ascent_for_small_and_zero_for_large_drops() -> None:
    ratio = torch.tensor([0.0, -200.0], requires_grad=True)
    loss = negative_preference(ratio, 0.1)
    assert loss.tolist() == pytest.approx([20 * math.log(2), 0.0], abs=1e-6)
    loss.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_segment_sums_and_lowered_logits() -> None:
    assert segment_sums(torch.arange(6.0), [1, 3, 2]).tolist() == [0, 6, 9]
    logits = torch.zeros(2, 3, dtype=torch.bfloat16)
    assert lower_logits(logits, [2, 0], 4.0).tolist() == [[0, 0, -4], [-4, 0, 0]]
    assert not logits.any(), "the base's own logits stay as they are"
