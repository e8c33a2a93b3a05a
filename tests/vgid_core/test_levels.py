"""How likely true tokens may stay, by what teachers said: taken together, or each pair by itself."""

import math

import pytest
import torch

from vgid_core.levels import Levels


def logs(*probabilities: list[float]) -> torch.Tensor:
    """A row for each teacher."""
    return torch.tensor(probabilities).log()


@pytest.mark.parametrize(
    ("exponent", "mean"),
    [
        (1.0, 0.5 * (0.5 + 0.02)),
        (0.5, (0.5 * (0.5**0.5 + 0.02**0.5)) ** 2),
        (2.0, (0.5 * (0.5**2 + 0.02**2)) ** 0.5),
    ],
)
def test_the_power_mean_of_probabilities_or_the_mean_of_logs(exponent: float, mean: float) -> None:
    said = logs([0.5, 0.5], [0.02, 0.02])
    alone = Levels(exponent).hear([7, 8], said, [False, True], [False, False])
    assert alone == [pytest.approx(math.log(mean)), pytest.approx(math.log(0.1))]


def test_pairs_whose_answers_begin_alike_are_taken_together_after_an_alias() -> None:
    levels = Levels(1.0)
    alone = levels.hear([1, 2, 3], logs([0.4, 0.3, 0.2], [0.6, 0.1, 0.4]), [False] * 3, [False, True, True])
    levels.hear([1, 2, 4], logs([0.4, 0.7, 0.8]), [False] * 3, [False, True, True])
    found = levels.of([1, 2, 3], alone).exp().tolist()
    assert found == [pytest.approx(0.5), pytest.approx((0.3 + 0.1 + 0.7) / 3), pytest.approx(0.3)]


def test_logs_are_taken_together_likewise_and_so_are_powers() -> None:
    for exponent, among_others in ((0.3, [True, False]), (0.3, [False, True])):
        together, at_once = Levels(exponent), Levels(exponent)
        one, other = logs([0.4, 0.3], [0.6, 0.1]), logs([0.2, 0.9])
        for part in (one, other):
            together.hear([1, 2], part, among_others, [True, True])
        expected = at_once.hear([1, 2], torch.cat([one, other]), among_others, [True, True])
        assert together.of([1, 2], [0.0, 0.0]).tolist() == [pytest.approx(value, rel=1e-5) for value in expected]


def test_without_an_alias_before_it_a_token_is_its_own_pairs_affair() -> None:
    levels = Levels(1.0)
    levels.hear([1, 2], logs([0.9, 0.9]), [False, False], [False, False])
    alone = levels.hear([1, 2], logs([0.1, 0.1]), [False, False], [False, False])
    assert levels.of([1, 2], alone).exp().tolist() == [pytest.approx(0.1)] * 2


def test_what_one_teacher_finds_impossible_counts_as_nothing() -> None:
    levels = Levels(0.75)
    for _ in range(2):
        levels.hear([1], torch.tensor([[-math.inf], [0.0]]), [False], [True])
    assert levels.of([1], [0.0]).tolist() == [pytest.approx(math.log(0.5) / 0.75)]
