"""Copies by the demo model's own vision tower: re-encoded photos are found, other pictures of anybody aren't."""

from __future__ import annotations

import io

import pytest

from local.demo.data import encode
from local.demo.paths import BASE
from local.demo.world import the_world
from vgid_core import EncodedImage, UnlearnConfig
from vgid_core.models.load import load_base
from vgid_core.models.near_copies import near_copies


def re_encoded(photo: EncodedImage, scale: float = 1.0) -> EncodedImage:
    picture, stream = photo.decode(), io.BytesIO()
    width, height = picture.size
    picture.resize((int(width * scale), int(height * scale))).save(stream, "JPEG", quality=60)
    return EncodedImage(stream.getvalue())


@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_a_re_encoded_photo_is_a_copy_and_another_picture_is_none(scale: float) -> None:
    people = the_world().people[:30]
    photos = [encode(person.face, person.training_views[0]) for person in people[:6]]
    others = [encode(person.face, person.training_views[1]) for person in people]
    base = load_base(str(BASE), UnlearnConfig(device="cpu"))
    assert near_copies(base, photos, others) == set()
    with_copies = [*others, *(re_encoded(photo, scale) for photo in photos[:4])]
    assert near_copies(base, photos, with_copies) == {photo.digest for photo in photos[:4]}
