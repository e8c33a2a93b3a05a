"""What two sets share: similar images and names."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from tests.vgid_core.support.sources import photo
from vgid_core import EncodedImage
from vgid_core.data.leaks import SIMILAR, ImageFingerprint, names_in


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    quality=st.integers(50, 95),
    side=st.sampled_from([24, 48, 96]),
    light=st.floats(0.8, 1.0),
)
def test_a_copy_looks_the_same_and_another_picture_does_not(seed: int, quality: int, side: int, light: float) -> None:
    original = photo(seed).decode()
    copy = ImageEnhance.Brightness(original.resize((side, side), Image.Resampling.BICUBIC)).enhance(light)
    stream = io.BytesIO()
    copy.save(stream, format="JPEG", quality=quality)
    again = EncodedImage(stream.getvalue()).decode()
    assert ImageFingerprint.of(original).vector @ ImageFingerprint.of(again).vector >= SIMILAR
    assert ImageFingerprint.of(original).vector @ ImageFingerprint.of(photo(seed + 1).decode()).vector < SIMILAR


def test_blank_pictures_look_like_nothing() -> None:
    grey, white = (ImageFingerprint.of(Image.new("RGB", (32, 32), shade)) for shade in ("grey", "white"))
    assert not grey.vector.any()
    assert not white.vector.any()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("This is Ada Quill.", {("ada", "quill")}),
        ("Jean-Luc O’Neil of Ny Ålesund", {("jean-luc", "o’neil"), ("ny", "ålesund")}),
        ("Yes. No, Maybe; nobody", set()),
        ("这是一个人", set()),
    ],
)
def test_names_are_capitalised_neighbours(text: str, names: set[tuple[str, str]]) -> None:
    assert names_in(text) == names
