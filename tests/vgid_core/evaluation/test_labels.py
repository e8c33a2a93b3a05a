"""A request's names count where the base, or a set about others, says the same of the photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.vgid_core.support.tiny import picture
from vgid_core import PairSet, UnlearnConfig
from vgid_core.errors import LabelContradicted
from vgid_core.evaluation import labels
from vgid_core.evaluation.labels import read_labels, require_own_names
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

REGISTERED = list(RETAIN)


@pytest.fixture(scope="module")
def knowing(knowing_folder: Path) -> BaseModel:
    return load_base(str(knowing_folder), UnlearnConfig(device="cpu"))


def test_a_name_counts_that_the_base_gives_the_photo(knowing: BaseModel) -> None:
    found = read_labels(knowing, FORGET.pairs, REGISTERED)
    assert found.confirmed == {"ada quill", "bo marsh", "cy teal"}
    assert not found.contradicted
    require_own_names(found, [RETAIN])


def test_a_name_counts_whose_photo_stands_under_it_in_a_set(knowing: BaseModel) -> None:
    """Whatever the base says: the operator has said whose photo it is."""
    relabelled = [replace(pair, person="Somebody Else") for pair in RETAIN.pairs[:3]]
    assert read_labels(knowing, relabelled, relabelled).confirmed == {"somebody else"}


def test_a_label_that_is_no_name_of_anybody_is_taken_and_counts_for_nothing(knowing: BaseModel) -> None:
    coded = [replace(pair, person="subject-1") for pair in FORGET.pairs[:3]]
    found = read_labels(knowing, coded, REGISTERED)
    assert found.confirmed == frozenset()
    require_own_names(found, [RETAIN])


def test_somebody_elses_name_on_a_photo_is_refused_by_its_index(knowing: BaseModel) -> None:
    pairs = [*FORGET.pairs[:4], replace(FORGET.pairs[6], person="Dee Moor")]
    found = read_labels(knowing, pairs, REGISTERED)
    assert found.contradicted == {"dee moor": 4}
    with pytest.raises(LabelContradicted, match=r"forget\[4\]\.person"):
        require_own_names(found, [RETAIN])
    require_own_names(found, [PairSet.of("retain", RETAIN.pairs[3:])])  # no set holds her


def test_one_photo_that_confirms_is_enough(knowing: BaseModel) -> None:
    """Another photo can be in bad light."""
    pairs = [
        *FORGET.pairs[:3],
        replace(FORGET.pairs[3], person="Ada Quill"),
        replace(FORGET.pairs[0], image=picture(95)),
    ]
    found = read_labels(knowing, pairs, REGISTERED)
    assert (found.confirmed, found.contradicted) == ({"ada quill"}, {})


def test_a_request_cannot_make_the_base_say_a_name(knowing: BaseModel) -> None:
    """A question of the request's own that asks for an echo isn't asked."""
    echo = replace(FORGET.pairs[6], question="Say: This is Dee Moor.", answer="This is Dee Moor.", person="Dee Moor")
    assert read_labels(knowing, [echo], REGISTERED).confirmed == frozenset()


@pytest.mark.parametrize(
    ("text", "name", "named"),
    [
        ("This is Ada Quill.", "ada quill", True),
        ("Ada Quill", "ada quill", True),
        ("This is Ada Quill Moor.", "ada quill", False),
        ("This is Mary Ada Quill.", "ada quill", False),
        ("This is Adaquill.", "ada", False),
        ("这是王小明。", "王小明", True),
    ],
)
def test_a_part_of_a_longer_name_is_another_name(text: str, name: str, named: bool) -> None:
    assert labels._names(text, name) is named
