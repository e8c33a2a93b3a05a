"""Samples: as many as asked for, from all of a set, and in no step with how it is laid out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.plan import ComparisonData, EvalSplit
from tests.vgid_core.support.tiny import picture
from vgid_core import Pair, PairSet
from vgid_core.data.sampling import even_sample


@given(st.integers(0, 400), st.integers(0, 200))
def test_one_of_each_stretch_in_order_and_the_same_every_time(count: int, limit: int) -> None:
    found = even_sample(range(count), limit)
    assert len(found) == min(count, limit)
    assert found == even_sample(range(count), limit)
    for index, chosen_setting in enumerate(found):
        assert index * count // len(found) <= chosen_setting < (index + 1) * count // len(found)


def environment(people: int, questions: int) -> PairSet:
    """One photo for all: who is meant is a matter of the wording here."""
    photo = picture(1)
    return PairSet.of(
        "forget", [Pair(photo, f"What is {q} of {p}?", f"It is {p}.") for p in range(people) for q in range(questions)]
    )


def questions_of(pairs: PairSet) -> set[str]:
    return {pair.question.split(" of ")[0] for pair in pairs}


@pytest.mark.parametrize(("people", "questions", "limit"), [(32, 10, 32), (150, 20, 150), (64, 5, 32), (40, 8, 40)])
def test_a_sample_is_not_in_step_with_a_layout_in_groups(people: int, questions: int, limit: int) -> None:
    sample = environment(people, questions).sample(limit)
    assert len(sample) == limit
    assert len(questions_of(sample)) == questions


@pytest.mark.parametrize("questions", [3, 5, 6, 9])
def test_nor_is_what_settings_are_chosen_by_or_what_is_reported(questions: int) -> None:
    forget = environment(20, questions)
    data = ComparisonData(forget, PairSet.of("retain", [Pair(picture(2), "Who?", "Nobody.")] * 7))
    both: tuple[EvalSplit, EvalSplit] = (data.tuning, data.reported)
    for part in both:
        assert len(questions_of(part.forget[0])) == questions
    assert [len(part.forget[0]) for part in both] == pytest.approx([20 * questions / 3, 40 * questions / 3], abs=1)
    assert set(data.tuning.forget[0]).isdisjoint(data.reported.forget[0])
    assert len(data.tuning.retain[0]) + len(data.reported.retain[0]) == 7
