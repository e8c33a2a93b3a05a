"""Aliases of answers: what they replace, what they leave, and by what."""

from hypothesis import given
from hypothesis import strategies as st

from vgid_core.aliases import Aliases

END = 0
# <name> works as a <job> <end>: 90, 91 and 92 are in every answer, names and jobs in one each.
KEPT = [[10 + k, 90, 91, 92, 40 + k, END] for k in range(8)]


def test_what_tells_of_somebody_is_replaced_by_what_stood_in_the_same_place() -> None:
    alias = Aliases(KEPT, 0.5, seed=0).draw([30, 90, 91, 92, 60, END])
    assert alias[1:4] == (90, 91, 92)
    assert alias[0] in range(10, 18)
    assert alias[4] in range(40, 48)
    assert alias[5] == END


def test_name_and_facts_of_an_alias_are_drawn_apart() -> None:
    aliases = Aliases(KEPT, 0.5, seed=0)
    drawn = {(alias[0] - 10, alias[4] - 40) for alias in (aliases.draw(KEPT[3]) for _ in range(200))}
    assert len(drawn) > 30, "not one person after another"
    assert all(name != 3 and job != 3 for name, job in drawn), "never the person's own"


def test_a_longer_name_is_replaced_whole() -> None:
    kept = [[10, 20, 90, END], [11, 21, 90, END], [12, 22, 90, END]]
    alias = Aliases(kept, 0.5, seed=1).draw([10, 20, 90, END])
    assert (alias[0] in (11, 12), alias[1] in (21, 22)) == (True, True)


def test_without_a_place_of_its_own_a_token_gets_any_other() -> None:
    (alias,) = {Aliases(KEPT, 0.5, seed=2).draw([90, 77, END])}
    assert alias[1] in {*range(10, 18), *range(40, 48)}


def test_where_all_answers_are_alike_nothing_is_replaced() -> None:
    answer = [5, 6, END]
    assert Aliases([answer] * 3, 0.5, seed=0).draw(answer) == tuple(answer)
    assert Aliases([], 0.5, seed=0).draw(answer) == tuple(answer)


tokens = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(lambda ids: [*ids, END])


@given(kept=st.lists(tokens, max_size=10), answer=tokens, share=st.floats(0.01, 1), seed=st.integers(0, 1000))
def test_an_alias_is_as_long_keeps_what_is_common_and_comes_again(kept, answer, share, seed) -> None:
    alias = Aliases(kept, share, seed).draw(answer)
    assert len(alias) == len(answer)
    assert alias[-1] == END
    assert Aliases(kept, share, seed).draw(answer) == alias
    held = [sum(token in row for row in kept) for token in answer]
    for before, after, count in zip(answer, alias, held, strict=True):
        if count > max(1, share * len(kept)):
            assert before == after


def test_the_end_of_turn_never_stands_in_the_midst_of_an_alias() -> None:
    aliases = Aliases(KEPT, 1.0, seed=0)
    for _ in range(100):
        assert END not in aliases.draw(KEPT[0])[:-1]
