"""Whom a measured set is about."""

from dataclasses import replace

import pytest

from tests.vgid_core.support.audited import unnamed
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from vgid_core import PairSet
from vgid_core.data.roles import AuditSets

SETS = AuditSets(FORGET, RETAIN, UNSEEN)


def test_a_set_is_about_those_whom_most_of_its_pairs_name() -> None:
    mostly = PairSet("probe", (*FORGET.pairs[:5], *RETAIN.pairs[:4]))
    half = PairSet("probe", (*FORGET.pairs[:4], *RETAIN.pairs[:4]))
    reworded = PairSet("probe", tuple(replace(pair, answer=f"Well: {pair.answer}") for pair in FORGET))
    assert [SETS.is_about_forgotten(items) for items in (FORGET, mostly, reworded)] == [True] * 3
    assert not SETS.is_about_forgotten(half)


def test_without_names_answers_tell() -> None:
    nameless = AuditSets(unnamed(FORGET), unnamed(RETAIN))
    assert nameless.is_about_forgotten(PairSet("probe", unnamed(FORGET).pairs))
    assert SETS.is_about_forgotten(PairSet("probe", unnamed(FORGET).pairs)), "the probe alone names nobody"
    assert not nameless.is_about_forgotten(PairSet("probe", unnamed(RETAIN).pairs))


@pytest.mark.parametrize("role", ["retain", "utility", "neighbours", "unseen"])
def test_a_role_about_others_stays_one_where_answers_are_shared(role: str) -> None:
    """As `yes`, or a colour, which the forget set holds as well: else nobody would see what is lost."""
    shared = PairSet(role, unnamed(FORGET).pairs)
    assert not AuditSets(unnamed(FORGET), RETAIN).is_about_forgotten(shared)


def test_a_name_written_otherwise_or_a_label_is_the_same_person() -> None:
    spaced = PairSet("probe", tuple(replace(pair, person=f"  {str(pair.person).upper()} ") for pair in FORGET))
    labelled = PairSet("probe", tuple(replace(pair, person="Subject A") for pair in FORGET if "This is" in pair.answer))
    others = PairSet("probe", tuple(replace(pair, person="Subject B") for pair in RETAIN))
    assert [SETS.is_about_forgotten(items) for items in (spaced, labelled, others)] == [True, True, False]
