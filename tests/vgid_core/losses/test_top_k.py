"""Top-k distributions: `tail_mass` is the dropped probability, and bounds the error."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vgid_core.losses.token_losses import token_kl_of_top_k
from vgid_core.losses.top_k import TopKDistribution


def random_distributions(positions: int, vocabulary: int, sharpness: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(positions, vocabulary, generator=generator) * sharpness).softmax(-1)


@given(st.integers(1, 5), st.integers(2, 60), st.integers(1, 60), st.floats(0.0, 6.0), st.integers(0, 1000))
def test_the_tail_mass_bounds_the_error_of_target_and_gradient(
    positions: int, vocabulary: int, most: int, sharpness: float, seed: int
) -> None:
    whole = random_distributions(positions, vocabulary, sharpness, seed)
    kept = TopKDistribution.from_probabilities(whole, most)
    rebuilt = kept.dense(vocabulary)
    assert kept.ids.shape == (positions, min(most, vocabulary))
    assert torch.allclose(rebuilt.sum(-1), torch.ones(positions), atol=1e-5)
    assert float((rebuilt - whole).abs().sum(-1).max()) <= 2 * kept.tail_mass + 1e-5
    gradients = []
    for target in (kept, TopKDistribution.from_probabilities(whole, vocabulary)):
        logits = random_distributions(positions, vocabulary, 1.0, seed + 1).log().requires_grad_()
        token_kl_of_top_k(target, logits).sum().backward()
        gradients.append(logits.grad)
    one, other = gradients
    assert one is not None
    assert other is not None
    assert float((one - other).abs().sum(-1).max()) <= 2 * kept.tail_mass + 1e-5


def test_a_vocabulary_of_at_most_k_tokens_is_exact() -> None:
    whole = random_distributions(3, 40, 2.0, 0)
    kept = TopKDistribution.from_probabilities(whole)
    assert kept.tail_mass == 0
    assert torch.allclose(kept.dense(40), whole, atol=1e-6)


def test_concat_undoes_split() -> None:
    kept = TopKDistribution.from_probabilities(random_distributions(6, 30, 2.0, 1), k=4)
    again = TopKDistribution.concat(kept.split([1, 0, 3, 2]))
    assert torch.equal(again.ids, kept.ids)
    assert torch.equal(again.probabilities, kept.probabilities)
    assert again.tail_mass == kept.tail_mass
    assert torch.equal(again.dense(30, slice(2, 5)), kept.dense(30)[2:5])


@given(st.integers(1, 5), st.integers(2, 60), st.integers(2, 60), st.floats(-40.0, 0.0), st.integers(0, 1000))
def test_one_token_gets_its_probability_and_the_others_keep_their_proportions(
    positions: int, vocabulary: int, most: int, log: float, seed: int
) -> None:
    kept = TopKDistribution.from_probabilities(random_distributions(positions, vocabulary, 2.0, seed), most)
    tokens = torch.randint(vocabulary, (positions,), generator=torch.Generator().manual_seed(seed))
    logs = torch.full((positions,), log)
    changed = kept.with_token_prob(tokens, logs)
    before, now = kept.dense(vocabulary), changed.dense(vocabulary)
    at = tokens[:, None]
    assert torch.allclose(now.gather(1, at), logs.exp()[:, None])
    assert torch.allclose(now.sum(-1), torch.ones(positions), atol=1e-5)
    # A token that wasn't kept takes the place of the least likely one.
    replaced = (before > 0).scatter(1, at, False) & ~dense_of(changed, vocabulary)
    assert int(replaced.sum(-1).max()) <= (0 if most >= vocabulary else 1)
    stayed = (before > 0).scatter(1, at, False) & ~replaced
    for was, is_now, these in zip(before, now, stayed, strict=True):
        if these.any() and float(1 - logs.exp()[0]) > 1e-3:
            share = is_now[these] / was[these]
            assert torch.allclose(share, share[:1].expand_as(share), rtol=1e-4)


def dense_of(distributions: TopKDistribution, vocabulary: int) -> torch.Tensor:
    kept = torch.zeros(len(distributions.ids), vocabulary, dtype=torch.bool)
    return kept.scatter_(1, distributions.ids.long(), True)


def test_rounding_makes_no_probability_negative() -> None:
    kept = TopKDistribution.from_probabilities(random_distributions(1, 40, 2.0, 0)).with_token_prob(
        torch.tensor([3]), torch.tensor([1e-6])
    )
    assert float(kept.probabilities.min()) >= 0
    assert float(kept.dense(40)[0, 3]) == 1


@pytest.mark.parametrize("others", [0.0, 1e-38, 1e-17])
def test_others_with_probability_zero_share_evenly(others: float) -> None:
    sure = TopKDistribution.from_probabilities(torch.tensor([[others, 1.0, others]])).with_token_prob(
        torch.tensor([1]), torch.tensor([0.25]).log()
    )
    assert torch.allclose(sure.dense(3), torch.tensor([[0.375, 0.25, 0.375]]))


def test_the_tail_mass_holds_after_a_token_gets_its_probability() -> None:
    whole = torch.full((1, 5000), 0.01 / 4999)
    whole[0, 7] = 0.99
    log = torch.tensor([0.25]).log()
    kept = TopKDistribution.from_probabilities(whole).with_token_prob(torch.tensor([7]), log)
    exact = TopKDistribution.from_probabilities(whole, 5000).with_token_prob(torch.tensor([7]), log).dense(5000)
    assert kept.tail_mass > 0.4
    assert float((kept.dense(5000) - exact).abs().sum()) <= 2 * kept.tail_mass + 1e-3
