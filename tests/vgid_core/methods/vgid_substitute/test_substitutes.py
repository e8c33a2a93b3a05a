"""Substitutes of answers: what they replace, what they leave, and by what."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vgid_core.support.substitute_runs import RETAIN, config, run_of
from vgid_core.data.pairs import PairSet
from vgid_core.methods import setup
from vgid_core.methods.vgid_substitute.substitutes import Substitutes
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


def test_a_retain_set_that_offers_no_substitutes_is_warned_of(
    base: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    same_answers = PairSet.of("retain", [replace(pair, answer="The shirt is teal.") for pair in RETAIN])
    settings = config()
    setup(settings.method, replace(run_of(base, PackedScorer(base), settings), retain=same_answers))
    assert any("too little to make substitutes of" in record.message for record in caplog.records)


END = 0
# <name> works as a <job> <end>: 90, 91 and 92 are in every answer, names and jobs in one each.
KEPT = [[10 + k, 90, 91, 92, 40 + k, END] for k in range(8)]


def test_what_tells_of_somebody_is_replaced_by_what_stood_in_the_same_place() -> None:
    substitute = Substitutes(KEPT, 0.5).draw([30, 90, 91, 92, 60, END], random.Random(0)).forms[0]
    assert substitute[1:4] == (90, 91, 92)
    assert substitute[0] in range(10, 18)
    assert substitute[4] in range(40, 48)
    assert substitute[5] == END


def test_name_and_facts_of_a_substitute_are_drawn_apart() -> None:
    substitutes, rng = Substitutes(KEPT, 0.5), random.Random(0)
    drawn = {
        (substitute[0] - 10, substitute[4] - 40)
        for substitute in (substitutes.draw(KEPT[3], rng).forms[0] for _ in range(200))
    }
    assert len(drawn) > 30, "not one person after another"
    assert all(name != 3 and job != 3 for name, job in drawn), "never the person's own"


def test_a_longer_name_is_replaced_whole() -> None:
    kept = [[10, 20, 90, END], [11, 21, 90, END], [12, 22, 90, END]]
    substitute = Substitutes(kept, 0.5).draw([10, 20, 90, END], random.Random(1)).forms[0]
    assert (substitute[0] in (11, 12), substitute[1] in (21, 22)) == (True, True)


def test_without_a_place_of_its_own_a_token_gets_any_other() -> None:
    substitute = Substitutes(KEPT, 0.5).draw([90, 77, END], random.Random(2)).forms[0]
    assert substitute[1] in {*range(10, 18), *range(40, 48)}


def test_numbers_are_replaced_however_many_answers_have_the_same_digits() -> None:
    kept = [[90, 91, 1 + k % 5, 1 + (k + k // 5) % 5, 1 + k // 5 % 5, END] for k in range(25)]
    number = [90, 91, 3, 3, 3, END]
    assert Substitutes(kept, 0.1).draw(number, random.Random(0)).forms == (tuple(number),), "each digit alone is common"
    substitute = Substitutes(kept, 0.1, numbers=range(1, 6)).draw(number, random.Random(0)).forms[0]
    assert substitute[:2] == (90, 91)
    assert all(new != old and new in range(1, 6) for new, old in zip(substitute[2:5], number[2:5], strict=True))


def test_a_number_is_replaced_by_another_one_where_its_place_always_has_the_same() -> None:
    born = [[10 + k, 20 + k, 90, 1, 2 + k % 5, END] for k in range(40)]
    substitutes, rng = Substitutes(born, 0.2, numbers=range(1, 7)), random.Random(0)
    drawn = [substitutes.draw([70, 71, 90, 1, 3, END], rng).forms[0] for _ in range(50)]
    assert all(substitute[3] in range(2, 7) and substitute[4] in (2, 4, 5, 6) for substitute in drawn)
    assert all(substitute[0] in range(10, 50) for substitute in drawn)


def test_where_all_answers_are_the_same_nothing_is_replaced() -> None:
    answer = [5, 6, END]
    assert Substitutes([answer] * 3, 0.5).draw(answer, random.Random(0)).forms == (tuple(answer),)
    assert Substitutes([], 0.5).draw(answer, random.Random(0)).forms == (tuple(answer),)


tokens = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(lambda ids: [*ids, END])


@given(kept=st.lists(tokens, max_size=10), answer=tokens, share=st.floats(0.01, 1), seed=st.integers(0, 1000))
def test_a_substitute_is_as_long_keeps_what_is_common_and_comes_again(kept, answer, share, seed) -> None:
    drawn = Substitutes(kept, share).draw(answer, random.Random(seed))
    assert Substitutes(kept, share).draw(answer, random.Random(seed)) == drawn
    held = [sum(token in row for row in kept) for token in answer]
    for substitute in drawn.forms:
        assert len(substitute) == len(answer)
        assert substitute[-1] == END
        for before, after, count in zip(answer, substitute, held, strict=True):
            if count > max(1, share * len(kept)):
                assert before == after


@given(kept=st.lists(tokens, max_size=10), answer=tokens, seed=st.integers(0, 1000))
def test_a_token_is_asked_after_no_more_of_its_own_answer_than_the_retain_set_has(kept, answer, seed) -> None:
    drawn = Substitutes(kept, 0.3).draw(answer, random.Random(seed))
    substitute = drawn.forms[0]
    for index, number in enumerate(drawn.form_of):
        before = drawn.forms[number][:index]
        begun = next((t for t in range(index) if before[t] != substitute[t]), index)  # where it is left as it is
        left = answer[begun : index + 1]
        assert before[begun:] == tuple(left[:-1])
        if begun < index:
            assert any(left == row[k : k + len(left)] for row in kept for k in range(len(row)))


def test_a_long_row_that_the_retain_set_holds_has_one_form_more_however_long_it_is() -> None:
    kept = [[*range(100, 300), END], [90, END], [90, END]]
    answer = kept[0]
    drawn = Substitutes(kept, 0.5).draw(answer, random.Random(0))
    assert len(drawn.forms) == 2
    assert drawn.forms[1][:199] == tuple(answer[:199])
    assert set(drawn.form_of[1:200]) == {1}


def test_a_name_that_others_bear_too_is_asked_after_its_own_beginning() -> None:
    # Two employers of two tokens each after 90, one of them with two people: 20, 21 and 30, 31.
    kept = [[1, 90, 20, 21, END], [2, 90, 20, 21, END], [3, 90, 30, 31, END], [4, 90, 30, 31, END]]
    answer = [7, 8, 90, 20, 21, END]
    drawn = Substitutes(kept, 0.6).draw(answer, random.Random(0))
    assert drawn.form_of == (0, 0, 0, 0, 1, 0), "but not after a name that nobody else bears"
    substitute, begun = drawn.forms
    assert substitute[3] == 30, "the other's"
    assert begun[:4] == (*substitute[:3], 20)


def test_a_whole_name_that_the_retain_set_holds_is_asked_as_it_stands() -> None:
    kept = [[5, 6, 7, 90, END], [8, 9, 90, END]]
    drawn = Substitutes(kept, 0.5).draw([5, 6, 7, 90, END], random.Random(0))
    assert len(drawn.forms) == 2, "both later tokens after one and the same beginning"
    assert drawn.form_of == (0, 1, 1, 0, 0)
    assert drawn.forms[1][:2] == (5, 6)


def test_the_end_of_turn_never_stands_in_the_midst_of_a_substitute() -> None:
    substitutes, rng = Substitutes(KEPT, 1.0), random.Random(0)
    for _ in range(100):
        assert END not in substitutes.draw(KEPT[0], rng).forms[0][:-1]
