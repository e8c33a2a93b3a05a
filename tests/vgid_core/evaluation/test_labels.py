"""A request's names count where the base, or a set about others, says the same of the photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.vgid_core.support.tiny import picture
from vgid_core import PairSet, UnlearnConfig
from vgid_core.errors import LabelContradicted
from vgid_core.evaluation.labels import read_labels, require_own_names
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

REGISTERED = list(RETAIN)


@pytest.fixture(scope="module")
def knowing(knowing_folder: Path) -> BaseModel:
    return load_base(str(knowing_folder), UnlearnConfig(device="cpu"))


def test_a_name_counts_that_the_base_gives_the_photo(knowing: BaseModel) -> None:
    labels = read_labels(knowing, FORGET.pairs, REGISTERED)
    assert labels.confirmed == {"ada quill", "bo marsh", "cy teal"}
    assert not labels.contradicted
    require_own_names(labels, [RETAIN])


def test_a_name_counts_whose_photo_stands_under_it_in_a_set(knowing: BaseModel) -> None:
    """Whatever the base says: the operator has said whose photo it is."""
    relabelled = [replace(pair, person="Somebody Else") for pair in RETAIN.pairs[:3]]
    assert read_labels(knowing, relabelled, relabelled).confirmed == {"somebody else"}


def test_a_label_that_is_no_name_of_anybody_is_taken_and_counts_for_nothing(knowing: BaseModel) -> None:
    coded = [replace(pair, person="subject-1") for pair in FORGET.pairs[:3]]
    labels = read_labels(knowing, coded, REGISTERED)
    assert labels.confirmed == frozenset()
    require_own_names(labels, [RETAIN])


def test_somebody_elses_name_on_a_photo_is_refused_by_its_index(knowing: BaseModel) -> None:
    pairs = [*FORGET.pairs[:4], replace(FORGET.pairs[6], person="Dee Moor")]
    labels = read_labels(knowing, pairs, REGISTERED)
    assert labels.contradicted == {"dee moor": 4}
    with pytest.raises(LabelContradicted, match=r"forget\[4\]\.person"):
        require_own_names(labels, [RETAIN])
    require_own_names(labels, [PairSet.of("retain", RETAIN.pairs[3:])])  # no set holds her


def test_one_photo_that_confirms_is_enough(knowing: BaseModel) -> None:
    """Another photo can be in bad light."""
    pairs = [
        *FORGET.pairs[:3],
        replace(FORGET.pairs[3], person="Ada Quill"),
        replace(FORGET.pairs[0], image=picture(95)),
    ]
    labels = read_labels(knowing, pairs, REGISTERED)
    assert (labels.confirmed, labels.contradicted) == ({"ada quill"}, {})
