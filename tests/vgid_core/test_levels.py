"""How likely true tokens may stay, by what teachers said: taken together, or each pair by itself."""

import math

import pytest
import torch

from vgid_core.methods.vgid_alias.levels import Levels

NOBODYS = [False] * 3


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
    said = logs([0.9, 0.5, 0.5], [0.9, 0.02, 0.02])
    alone = Levels(exponent).hear([6, 7, 8], said, [False, False, True], NOBODYS, NOBODYS)
    assert alone[1:] == [pytest.approx(math.log(mean)), pytest.approx(math.log(0.1))]


@pytest.mark.parametrize("among_others", [False, True])
@pytest.mark.parametrize(("first", "level"), [(1.0, 0.251), (0.0, 0.0316), (-8.0, 0.0022)])
def test_the_first_token_has_a_mean_of_its_own(first: float, level: float, among_others: bool) -> None:
    levels = Levels(3.0, first=first)
    alone = levels.hear([7, 8], logs([0.5, 0.5], [0.002, 0.5]), [among_others] * 2, NOBODYS[:2], NOBODYS[:2])
    assert [math.exp(value) for value in alone] == [pytest.approx(level, rel=0.02), pytest.approx(0.5)]


@pytest.mark.parametrize("first", [1e-17, -1e-17, -8.0])
def test_no_exponent_and_no_impossible_token_gives_an_infinite_or_certain_level(first: float) -> None:
    alone = Levels(1.0, first=first).hear([7], logs([0.5], [0.0]), [False], [False], [False])
    assert -1001 < alone[0] < -100


def test_pairs_whose_answers_begin_alike_are_taken_together_after_an_alias() -> None:
    levels = Levels(1.0)
    alone = levels.hear([1, 2, 3], logs([0.4, 0.3, 0.2], [0.6, 0.1, 0.4]), [False] * 3, [False, True, True], NOBODYS)
    levels.hear([1, 2, 4], logs([0.4, 0.7, 0.8]), [False] * 3, [False, True, True], NOBODYS)
    found = levels.of([1, 2, 3], alone).exp().tolist()
    assert found == [pytest.approx(0.5), pytest.approx((0.3 + 0.1 + 0.7) / 3), pytest.approx(0.3)]


def test_logs_are_taken_together_likewise_and_so_are_powers() -> None:
    for exponent, among_others in ((0.3, [True, False]), (0.3, [False, True])):
        together, at_once = Levels(exponent), Levels(exponent)
        one, other = logs([0.4, 0.3], [0.6, 0.1]), logs([0.2, 0.9])
        for part in (one, other):
            together.hear([1, 2], part, among_others, [True, True], NOBODYS[:2])
        expected = at_once.hear([1, 2], torch.cat([one, other]), among_others, [True, True], NOBODYS[:2])
        assert together.of([1, 2], [0.0, 0.0]).tolist() == [pytest.approx(value, rel=1e-5) for value in expected]


def test_without_an_alias_before_it_a_token_is_its_own_pairs_affair() -> None:
    levels = Levels(1.0)
    levels.hear([1, 2], logs([0.9, 0.9]), [False, False], [False, False], NOBODYS[:2])
    alone = levels.hear([1, 2], logs([0.1, 0.1]), [False, False], [False, False], NOBODYS[:2])
    assert levels.of([1, 2], alone).exp().tolist() == [pytest.approx(0.1)] * 2


def test_what_one_teacher_finds_impossible_counts_as_nothing() -> None:
    levels = Levels(0.75)
    for _ in range(2):
        levels.hear([1], torch.tensor([[-math.inf], [0.0]]), [False], [True], [False])
    assert levels.of([1], [0.0]).tolist() == [pytest.approx(math.log(0.5) / 0.75)]


def test_levels_of_guessed_tokens_are_spread_around_their_mean() -> None:
    levels, guessed = Levels(1.0, spread=1.5), [False, True, True]
    alone = [
        levels.hear([1, 2, 3], logs([0.5, 1e-3, 1e-4]), [False] * 3, [False, True, True], guessed),
        levels.hear([1, 4, 5], logs([0.5, 1e-2, 1e-7]), [False] * 3, [False, True, True], guessed),
    ]
    found = torch.cat([levels.of(answer, own) for answer, own in zip(([1, 2, 3], [1, 4, 5]), alone, strict=True)])
    tens = (found / math.log(10)).tolist()  # the mean of 3, 4, 2 and 7 is 4
    assert tens == [pytest.approx(value) for value in (math.log10(0.5), -2.5, -4, math.log10(0.5), -1, -8.5)]


@pytest.mark.parametrize(("likely", "at_most"), [(0.1, 0.25), (0.9, 0.9)])
def test_nothing_is_spread_to_where_it_would_be_said(likely: float, at_most: float) -> None:
    levels = Levels(1.0, spread=4.0)
    alone = levels.hear([1, 2], logs([likely, 1e-9]), [False] * 2, [True, True], [True, True])
    assert levels.of([1, 2], alone).exp().tolist()[0] == pytest.approx(at_most)
