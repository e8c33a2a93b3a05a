import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vgid_core.losses import mean_over_answers, token_kl, token_log_probability


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


def test_masked_positions_count_for_nothing_even_when_not_finite() -> None:
    values = torch.tensor([[1.0, 2.0, math.nan], [4.0, math.inf, math.nan]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_answers(values, mask, 3).item() == pytest.approx(7 / 3)


def test_no_answer_tokens_is_an_error_and_not_a_division_by_zero() -> None:
    with pytest.raises(ValueError, match="without answer tokens"):
        mean_over_answers(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool), 0)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 99))
def test_shares_of_micro_batches_add_up(rows: list[list[bool]], seed: int) -> None:
    mask = torch.tensor(rows)
    total = int(mask.sum())
    if total == 0:
        return
    values = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed))
    whole = mean_over_answers(values, mask, total)
    parts = sum(mean_over_answers(values[i : i + 1], mask[i : i + 1], total) for i in range(len(rows)))
    assert torch.allclose(whole, torch.as_tensor(parts), atol=1e-5)
