"""Fused head and loss: the same values and gradients as the two in turn."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgid_core.losses.fused_linear import linear_kl, linear_kl_and_logprob, linear_log_probability
from vgid_core.losses.token_losses import token_kl, token_kl_of_top_k, token_log_probability
from vgid_core.losses.top_k import TopKDistribution


def test_linear_kl_and_logprob_are_head_and_losses_in_turn() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 12, generator=generator)
    target = TopKDistribution.from_probabilities(torch.randn(700, 50, generator=generator).softmax(-1), k=20)
    states = torch.randn(700, 12, generator=generator)
    ids = torch.randint(50, (700,), generator=generator)
    ours, theirs = (states.clone().requires_grad_() for _ in range(2))
    fused = linear_kl_and_logprob(ours, target, ids, weight)
    logits = theirs @ weight.T
    plain = token_kl_of_top_k(target, logits), token_log_probability(logits, ids)
    for found, expected in zip(fused, plain, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    for one, other in (fused, plain):
        (one.sum() + 0.7 * (other * other).sum()).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


@settings(max_examples=15)
@given(st.integers(1, 1100), st.integers(0, 99))
def test_linear_kl_is_head_and_kl_in_turn(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(37, 8, generator=generator)
    teacher = torch.randn(tokens, 8, generator=generator)
    first = torch.randn(tokens, 8, generator=generator, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    factors = torch.randn(tokens, generator=generator)
    fused = linear_kl(first, teacher, weight)
    plain = token_kl((teacher @ weight.T)[None], (second @ weight.T)[None])[0]
    (fused * factors).sum().backward()
    (plain * factors).sum().backward()
    assert torch.allclose(fused, plain, atol=1e-5, rtol=1e-4)
    assert torch.allclose(first.grad, second.grad, atol=1e-5, rtol=1e-4)


@settings(max_examples=15)
@given(st.integers(1, 1100), st.integers(0, 99))
def test_linear_log_probability_is_head_and_log_probability_in_turn(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(37, 8, generator=generator)
    ids = torch.randint(37, (tokens,), generator=generator)
    first = torch.randn(tokens, 8, generator=generator, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    factors = torch.randn(tokens, generator=generator)
    fused = linear_log_probability(first, ids, weight)
    plain = token_log_probability(second @ weight.T, ids)
    (fused * factors).sum().backward()
    (plain * factors).sum().backward()
    assert torch.allclose(fused, plain, atol=1e-5, rtol=1e-4)
    assert torch.allclose(first.grad, second.grad, atol=1e-5, rtol=1e-4)
