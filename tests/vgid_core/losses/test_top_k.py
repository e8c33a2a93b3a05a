"""Distributions by their likeliest tokens: what is dropped is what `tail_mass` says, and bounds what it can change."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vgid_core.losses.token_losses import token_kl_of_top_k
from vgid_core.losses.top_k import TopKDistribution


def drawn(positions: int, vocabulary: int, sharpness: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(positions, vocabulary, generator=generator) * sharpness).softmax(-1)


@given(st.integers(1, 5), st.integers(2, 60), st.integers(1, 60), st.floats(0.0, 6.0), st.integers(0, 1000))
def test_what_is_left_out_bounds_the_target_and_the_gradient(
    positions: int, vocabulary: int, most: int, sharpness: float, seed: int
) -> None:
    whole = drawn(positions, vocabulary, sharpness, seed)
    kept = TopKDistribution.of(whole, most)
    rebuilt = kept.whole(vocabulary)
    assert kept.ids.shape == (positions, min(most, vocabulary))
    assert torch.allclose(rebuilt.sum(-1), torch.ones(positions), atol=1e-5)
    assert float((rebuilt - whole).abs().sum(-1).max()) <= 2 * kept.tail_mass + 1e-5
    gradients = []
    for target in (kept, TopKDistribution.of(whole, vocabulary)):
        logits = drawn(positions, vocabulary, 1.0, seed + 1).log().requires_grad_()
        token_kl_of_top_k(target, logits).sum().backward()
        gradients.append(logits.grad)
    one, other = gradients
    assert one is not None
    assert other is not None
    assert float((one - other).abs().sum(-1).max()) <= 2 * kept.tail_mass + 1e-5


def test_a_small_vocabulary_is_kept_whole() -> None:
    whole = drawn(3, 40, 2.0, 0)
    kept = TopKDistribution.of(whole)
    assert kept.tail_mass == 0
    assert torch.allclose(kept.whole(40), whole, atol=1e-6)


def test_parts_and_joining_are_each_others_inverse() -> None:
    kept = TopKDistribution.of(drawn(6, 30, 2.0, 1), most=4)
    again = TopKDistribution.joined(kept.split([1, 0, 3, 2]))
    assert torch.equal(again.ids, kept.ids)
    assert torch.equal(again.probabilities, kept.probabilities)
    assert again.tail_mass == kept.tail_mass
    assert torch.equal(again.whole(30, slice(2, 5)), kept.whole(30)[2:5])


@given(st.integers(1, 5), st.integers(2, 60), st.integers(2, 60), st.floats(-40.0, 0.0), st.integers(0, 1000))
def test_tokens_get_their_probabilities_and_the_others_share_the_rest_as_before(
    positions: int, vocabulary: int, most: int, log: float, seed: int
) -> None:
    kept = TopKDistribution.of(drawn(positions, vocabulary, 2.0, seed), most)
    tokens = torch.randint(vocabulary, (positions,), generator=torch.Generator().manual_seed(seed))
    logs = torch.full((positions,), log)
    agreeing = kept.with_token_prob(tokens, logs)
    before, now = kept.whole(vocabulary), agreeing.whole(vocabulary)
    at = tokens[:, None]
    assert torch.allclose(now.gather(1, at), logs.exp()[:, None])
    assert torch.allclose(now.sum(-1), torch.ones(positions), atol=1e-5)
    # A token that wasn't kept takes the place of the least likely one.
    lost = (before > 0).scatter(1, at, False) & ~now_kept(agreeing, vocabulary)
    assert int(lost.sum(-1).max()) <= (0 if most >= vocabulary else 1)
    stayed = (before > 0).scatter(1, at, False) & ~lost
    for was, is_now, these in zip(before, now, stayed, strict=True):
        if these.any() and float(1 - logs.exp()[0]) > 1e-3:
            share = is_now[these] / was[these]
            assert torch.allclose(share, share[:1].expand_as(share), rtol=1e-4)


def now_kept(distributions: TopKDistribution, vocabulary: int) -> torch.Tensor:
    kept = torch.zeros(len(distributions.ids), vocabulary, dtype=torch.bool)
    return kept.scatter_(1, distributions.ids.long(), True)


def test_rounding_makes_no_probability_negative() -> None:
    kept = TopKDistribution.of(drawn(1, 40, 2.0, 0)).with_token_prob(torch.tensor([3]), torch.tensor([1e-6]))
    assert float(kept.probabilities.min()) >= 0
    assert float(kept.whole(40)[0, 3]) == 1


@pytest.mark.parametrize("others", [0.0, 1e-38, 1e-17])
def test_others_of_whom_nothing_is_left_share_evenly(others: float) -> None:
    sure = TopKDistribution.of(torch.tensor([[others, 1.0, others]])).with_token_prob(
        torch.tensor([1]), torch.tensor([0.25]).log()
    )
    assert torch.allclose(sure.whole(3), torch.tensor([[0.375, 0.25, 0.375]]))


def test_what_is_left_out_is_known_after_agreeing_too() -> None:
    whole = torch.full((1, 5000), 0.01 / 4999)
    whole[0, 7] = 0.99
    log = torch.tensor([0.25]).log()
    kept = TopKDistribution.of(whole).with_token_prob(torch.tensor([7]), log)
    exact = TopKDistribution.of(whole, 5000).with_token_prob(torch.tensor([7]), log).whole(5000)
    assert kept.tail_mass > 0.4
    assert float((kept.whole(5000) - exact).abs().sum()) <= 2 * kept.tail_mass + 1e-3
