"""Retain examples about people in no set."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import replace

import pytest
import torch

from tests.vgid_core.support.speaking import learn_by_heart
from tests.vgid_core.support.substitute_runs import FORGET, RETAIN, UNSEEN_FACES, config, run_of
from tests.vgid_core.support.tiny import picture
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.methods import setup
from vgid_core.models.base import FEATURE_BYTES, BaseModel
from vgid_core.models.tensor_cache import TensorCache
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.loop import distil


def test_neighbours_are_retain_questions_on_photos_of_nobody_in_a_set(base: BaseModel) -> None:
    settings = config({"neighbour_pairs": 12})
    updates = setup(settings.method, run_of(base, PackedScorer(base), settings))
    registered = {pair.image for pair in [*FORGET, *RETAIN]}
    texts = {(pair.question, pair.answer) for pair in RETAIN}
    seen: list[EncodedImage] = []
    for _ in range(settings.training.steps or 0):
        _, [retain, *_] = updates(FORGET.pairs, [])
        assert len(retain.examples) == 12
        for example in retain.examples:
            assert example.pair.image not in registered
            assert (example.pair.question, example.pair.answer) in texts
        seen += [example.pair.image for example in retain.examples]
    assert len(set(seen)) > 12, "new ones in every step"
    assert any(photo in UNSEEN_FACES for photo in seen)


def test_unlabelled_photos_have_the_bases_answers_unless_these_identify_the_forgotten(base: BaseModel) -> None:
    """The tiny model is taught to say a number about some photos, and the forgotten name about one."""
    photos = [picture(number) for number in range(90, 94)]
    questions = list(dict.fromkeys(pair.question for pair in RETAIN))
    taught = [Pair(photo, text, str(7 + index)) for index, photo in enumerate(photos[:3]) for text in questions]
    taught += [Pair(photos[3], text, FORGET.pairs[-1].answer) for text in questions]
    learn_by_heart(base, taught, steps=80)
    settings = config({"neighbour_pairs": 24})
    context = replace(run_of(base, PackedScorer(base), settings), unlabelled=photos)
    updates = setup(settings.method, context)
    made = [updates(FORGET.pairs, [])[1][0] for _ in range(settings.training.steps or 0)]
    unlabelled = [example.pair for term in made for example in term.examples if example.pair.image in photos]
    assert unlabelled
    assert {pair.answer for pair in unlabelled} <= {"7", "8", "9"}
    assert photos[3] not in {pair.image for pair in unlabelled}


def test_what_is_kept_of_photos_that_are_shown_once_goes_again(base: BaseModel) -> None:
    settings = config({"neighbour_pairs": 12}, steps=30)
    features = Noting(FEATURE_BYTES)
    distil(replace(base, features=features), FORGET, RETAIN, settings, unseen_faces=UNSEEN_FACES)
    known = {pair.image.digest for pair in [*FORGET, *RETAIN]} | {photo.digest for photo in UNSEEN_FACES}
    held = {key for key in features.stored if features.get(key) is not None}
    assert known & held
    assert len(features.stored - known) > 100
    assert len(held - known) <= 8 * 12, "no more than of the last eight steps"


class Noting(TensorCache):
    """Notes under which keys something was ever stored."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.stored: set[Hashable] = set()

    def put(self, key: Hashable, tensor: torch.Tensor) -> None:
        super().put(key, tensor)
        self.stored.add(key)


class KnowsRetainPhotosAlone(PackedScorer):
    """A base to which any other photo makes the answers far less likely."""

    def teacher_log_probability(self, examples: Sequence[DistillExample]) -> torch.Tensor:
        photos = {pair.image for pair in RETAIN}
        known = all(example.pair.image in photos for example in examples)
        return super().teacher_log_probability(examples) - (0 if known else 100)


def test_a_warning_where_no_boundary_photo_shows_the_retained_person(
    base: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config()
    updates = setup(settings.method, run_of(base, KnowsRetainPhotosAlone(base), settings))
    with caplog.at_level(logging.WARNING):
        _, [retain, *_] = updates(FORGET.pairs, RETAIN.pairs[:4])
    assert "boundary examples were found" in caplog.text
    assert len(retain.examples) > 4, "the other kinds are there"
