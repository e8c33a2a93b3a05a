"""Photos of nobody: means of other people's photos."""

import itertools

import numpy as np
import pytest

from tests.vgid_core.tiny import pair_set
from vgid_core.data.pairs import EncodedImage
from vgid_core.methods.vgid_alias.alias_photos import AliasPhotos

PHOTOS = [pair.image for pair in pair_set("retain", 4)]
SIZE = (20, 14)


def pixels(photo: EncodedImage) -> np.ndarray:
    return np.asarray(photo.decode().convert("RGB").resize(SIZE), dtype=np.float32)


@pytest.mark.parametrize("blended", [1, 2, 3])
def test_each_is_the_mean_of_so_many_different_photos(blended: int) -> None:
    drawn = np.asarray(AliasPhotos(PHOTOS, blended, seed=3).draw(SIZE), dtype=np.float32)
    means = [np.mean([pixels(photo) for photo in some], axis=0) for some in itertools.combinations(PHOTOS, blended)]
    off = min(float(np.abs(drawn - mean).max()) for mean in means)
    assert off <= blended - 1 + 0.5, "each blend rounds down to whole values"


def test_fewer_photos_than_asked_for_are_all_taken() -> None:
    drawn = np.asarray(AliasPhotos(PHOTOS[:2], 5, seed=0).draw(SIZE), dtype=np.float32)
    assert float(np.abs(drawn - (pixels(PHOTOS[0]) + pixels(PHOTOS[1])) / 2).max()) <= 1.5


def test_draws_differ_and_a_seed_repeats_them() -> None:
    one, other = (AliasPhotos(PHOTOS, 2, seed=8) for _ in range(2))
    first = [one.draw(SIZE).tobytes() for _ in range(6)]
    assert first == [other.draw(SIZE).tobytes() for _ in range(6)]
    assert len(set(first)) > 1
