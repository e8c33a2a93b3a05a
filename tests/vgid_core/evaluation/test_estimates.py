"""Intervals and AUCs beside scikit-learn's, scipy's and a loop written out, and what must hold of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from vgid_core.evaluation.estimates import Estimate, Values, auc_of, mean_of
from vgid_core.evaluation.measures.membership import auc

PEOPLE = "abcdefghij"
EXACT = 1e-9

shares = st.lists(st.tuples(st.sampled_from(PEOPLE), st.floats(0, 1)), min_size=1, max_size=40)
# Few different values, so that many tie.
scores = st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(-3, 3)), min_size=1, max_size=25)


def values(items: list[tuple[str, float]]) -> Values:
    return Values([value for _, value in items], [who for who, _ in items])


def same(one: Estimate, other: Estimate) -> bool:
    return [one.value, one.low, one.high] == pytest.approx([other.value, other.low, other.high], abs=EXACT)


@given(scores, scores)
def test_the_auc_is_scikit_learns(members: list[tuple[str, int]], others: list[tuple[str, int]]) -> None:
    labels = [1] * len(members) + [0] * len(others)
    expected = roc_auc_score(labels, [value for _, value in [*members, *others]])
    assert auc_of(values(members), values(others)).value == pytest.approx(expected, abs=EXACT)
    assert auc([v for _, v in members], [v for _, v in others]) == pytest.approx(expected, abs=1e-6)


def test_the_bootstrap_draws_people_with_all_their_items() -> None:
    rng = np.random.default_rng(1)
    found = [(PEOPLE[index % 7], float(rng.random())) for index in range(40)]
    estimate, means = mean_of(values(found), seed=3), []
    draws = np.random.default_rng(3)
    for _ in range(1000):
        often = dict(zip(sorted(PEOPLE[:7]), draws.multinomial(7, np.full(7, 1 / 7)), strict=True))
        drawn = [value for who, value in found for _ in range(often[who])]
        means.append(sum(drawn) / len(drawn))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.value == pytest.approx(np.mean([value for _, value in found]))
    assert (estimate.people, estimate.items) == (7, 40)


def test_the_aucs_bootstrap_draws_people_of_both_sides() -> None:
    """By a loop with draws of its own, so up to the draws' luck."""
    rng = np.random.default_rng(2)
    members = [(PEOPLE[index % 5], float(rng.normal(0.7))) for index in range(20)]
    others = [(PEOPLE[index % 6], float(rng.normal())) for index in range(24)]
    estimate, aucs = auc_of(values(members), values(others)), []
    for _ in range(2000):
        sides = []
        for items in (members, others):
            names = sorted({who for who, _ in items})
            drawn = rng.choice(names, len(names))
            sides.append([value for name in drawn for who, value in items if who == name])
        wins = [left > right for left in sides[0] for right in sides[1]]
        aucs.append(sum(wins) / len(wins))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(aucs, [2.5, 97.5])), abs=0.03)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("share", [0, 1])
def test_where_all_agree_the_interval_is_that_of_clopper_and_pearson(count: int, share: int) -> None:
    estimate = mean_of(Values([share] * count, [str(number) for number in range(count)]))
    exact = binomtest(share * count, count).proportion_ci(0.95, method="exact")
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))
    half = mean_of(Values([0.5] * count, [str(number) for number in range(count)]))
    assert half.high - half.low >= min(1, exact.high - exact.low) - EXACT


def test_people_who_agree_up_to_rounding_agree() -> None:
    """.1 + .1 + .1 over 3 isn't .1."""
    estimate = mean_of(Values([0.1] * 4, ["a", "a", "a", "b"]))
    assert estimate.high - estimate.low > 0.5


def test_a_loss_that_everybody_has_may_be_a_gain_in_others() -> None:
    estimate = mean_of(Values([-0.2] * 3, list("abc")))
    assert -0.95 < estimate.low < -0.8
    assert 0.4 < estimate.high < 1


def test_one_person_claims_nothing_of_others() -> None:
    """However many pairs there are of that person, and however the others differ."""
    estimate = mean_of(Values([0.0, 1.0, 0.5], ["a"] * 3))
    assert (estimate.low, estimate.high) == (0, 1)
    others = Values([number / 40 for number in range(40)], [str(number) for number in range(40)])
    beside = auc_of(Values([0.5, 0.55], ["a"] * 2), others)
    assert (beside.low, beside.high) == (0, 1)


def test_there_is_no_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_of(Values([], []))


@given(shares)
def test_an_interval_holds_its_value_and_shares_stay_shares(items: list[tuple[str, float]]) -> None:
    estimate = mean_of(values(items))
    assert -EXACT <= estimate.low <= estimate.value <= estimate.high <= 1 + EXACT
    assert estimate.value == pytest.approx(np.mean([value for _, value in items]))


@given(scores, scores)
def test_so_does_an_aucs(members: list[tuple[str, int]], others: list[tuple[str, int]]) -> None:
    estimate = auc_of(values(members), values(others))
    assert -EXACT <= estimate.low <= estimate.value <= estimate.high <= 1 + EXACT


@given(shares, st.randoms(use_true_random=False))
def test_the_order_of_items_changes_nothing(items: list[tuple[str, float]], random) -> None:
    shuffled = random.sample(items, len(items))
    assert same(mean_of(values(shuffled)), mean_of(values(items)))
    beside = Values([0.3, 0.6], ["x", "y"])
    assert same(auc_of(values(shuffled), beside), auc_of(values(items), beside))


@given(shares, st.integers(2, 4))
def test_more_pairs_of_the_same_people_make_no_figure_surer(items: list[tuple[str, float]], times: int) -> None:
    once, often = mean_of(values(items)), mean_of(values(items * times))
    assert same(once, often)
    assert (often.people, often.items) == (once.people, times * once.items)
    beside = Values([0.3, 0.6], ["x", "y"])
    assert same(auc_of(values(items * times), beside), auc_of(values(items), beside))
