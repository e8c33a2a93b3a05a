"""What two sets share: similar images and names."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageEnhance

from tests.vgid_core.support.sources import photo
from vgid_core import EncodedImage
from vgid_core.data.leaks import SIMILAR, ImageFingerprint, names_in
from vgid_core.data.pairs import DataError


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


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB")])
def test_an_image_is_decoded_no_further_than_its_fingerprint_takes(kind: str, mode: str, turned: int) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    photo(3).decode().resize((1200, 700), Image.Resampling.BICUBIC).convert(mode).save(stream, kind, exif=exif)
    image = EncodedImage(stream.getvalue())
    whole, read = ImageFingerprint.of(image.decode()), ImageFingerprint.read(image)
    assert read.size == whole.size == ((1200, 700) if turned == 1 else (700, 1200))
    assert read.vector @ whole.vector > 0.999
    assert min(image.decode_reduced(64).size) == (88 if kind == "JPEG" else 700)  # an eighth, at least 64


def test_a_damaged_image_has_no_fingerprint() -> None:
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        photo(3).decode().resize((800, 800)).save(stream, kind)
        with pytest.raises(DataError):
            ImageFingerprint.read(EncodedImage(stream.getvalue()[:-200]))


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
