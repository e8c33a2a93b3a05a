"""Mixed photos, and what stands in for unseen faces."""

import random
from dataclasses import replace

import pytest

from tests.vgid_core.support.substitute_runs import RETAIN, UNSEEN_FACES, config, run_of
from tests.vgid_core.support.tiny import picture
from vgid_core.methods.vgid_substitute.photos import bounded, mixed, unseen_face_photos
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


def test_without_registered_unseen_faces_blends_stand_in_with_a_warning(
    base: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    context = replace(run_of(base, PackedScorer(base), config()), unseen_faces=())
    photos = unseen_face_photos(context, random.Random(0))
    assert "no unseen faces are registered" in caplog.text
    assert not {photo.digest for photo in photos} & {pair.image.digest for pair in RETAIN}
    assert unseen_face_photos(context, random.Random(0)) == photos
    assert unseen_face_photos(run_of(base, PackedScorer(base), config()), random.Random(0)) == UNSEEN_FACES


def test_a_mixed_photo_lies_between_its_two_and_is_no_longer_than_1024_pixels() -> None:
    one, other = picture(1), picture(2)
    found = mixed(one, other, 0.25).decode()
    for place in ((2, 2), (30, 30)):
        for channel in range(3):
            first, second = one.decode().getpixel(place)[channel], other.decode().getpixel(place)[channel]
            assert found.getpixel(place)[channel] == pytest.approx(0.75 * first + 0.25 * second, abs=1.01)
    assert bounded((4000, 1000)) == (1024, 256)
    assert bounded((64, 48)) == (64, 48)
