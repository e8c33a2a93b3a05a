"""Pairs and sets: JSONL, digests, encoded images."""

import base64
import io
import json
import random
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core import DataError, EncodedImage, Pair, PairSet
from vgid_core.data.pairs import IMAGE_FORMATS

# Eight by eight pixels, written by Pillow 13.
AVIF = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA"
    "AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAIwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEA"
    "AGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwA"
    "AAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAK21kYXQSAAoIGAi/aICGg0IyFR7Hh4VZ3///4sAA"
    "AJA1jjxnR0yXTA=="
)


def test_a_set_survives_the_disk(tmp_path: Path) -> None:
    original = pair_set("forget", 5)
    original.write_jsonl(tmp_path / "forget.jsonl")
    back = PairSet.from_jsonl(tmp_path / "forget.jsonl")
    assert (back.name, back.digest, len(back)) == ("forget", original.digest, 5)
    assert back == original


def test_characters_that_some_take_for_line_ends_survive_the_disk(tmp_path: Path) -> None:
    original = PairSet.of("forget", [Pair(picture(1), "one\u2028two\x85three?", "four\u2029five\nsix\x0bseven")])
    original.write_jsonl(tmp_path / "forget.jsonl")
    assert PairSet.from_jsonl(tmp_path / "forget.jsonl") == original


def test_an_image_named_twice_is_held_once(tmp_path: Path) -> None:
    image = picture(1)
    PairSet.of("forget", [Pair(image, "a?", "b"), Pair(image, "c?", "d")]).write_jsonl(tmp_path / "f.jsonl")
    assert len(list((tmp_path / "images").iterdir())) == 1
    first, second = PairSet.from_jsonl(tmp_path / "f.jsonl")
    assert first.image is second.image


def test_the_digest_names_content_and_order_and_not_the_role() -> None:
    items = pair_set("forget", 4)
    assert PairSet("retain", items.pairs).digest == items.digest
    assert PairSet("forget", items.pairs[::-1]).digest != items.digest
    assert PairSet("forget", items.pairs[:3]).digest != items.digest


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{not json", "forget[1]"),
        ("[1, 2]", "forget[1]"),
        ('{"image": "a.png", "question": "q"}', "forget[1].answer"),
        ('{"image": "a.png", "question": 3, "answer": "x"}', "forget[1].question"),
        ('{"image": "missing.png", "question": "q", "answer": "x"}', "forget[1].image"),
        ('{"image": "../outside.png", "question": "q", "answer": "x"}', "forget[1].image"),
        ('{"image": "a.png", "question": "q", "answer": "  "}', "forget[1].answer"),
        (r'{"image": "a.png", "question": "\ud800 q", "answer": "x"}', "forget[1].question"),
        (r'{"image": "a.png", "question": "q", "answer": "x \udfff"}', "forget[1].answer"),
    ],
)
def test_a_bad_line_is_named_and_not_repeated(tmp_path: Path, line: str, field: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(b"x")
    (folder / "a.png").write_bytes(picture(1).data)
    good = json.dumps({"image": "a.png", "question": "q", "answer": "x"})
    (folder / "forget.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError) as error:
        PairSet.from_jsonl(folder / "forget.jsonl")
    assert error.value.field == field
    assert line not in str(error.value)


@pytest.mark.parametrize(("question", "answer", "part"), [("\ud800 q", "a", "question"), ("q", "a\udcff", "answer")])
def test_half_a_character_is_refused_where_a_set_is_made(question: str, answer: str, part: str) -> None:
    whole = Pair(picture(1), "\U0001f642?", "Ada.")
    with pytest.raises(DataError, match=rf"^forget\[1\]\.{part}: holds half a character \(a lone surrogate\)$"):
        PairSet.of("forget", [whole, Pair(picture(1), question, answer)])


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_bytes('{"image": "a.png", "question": "Où?", "answer": "x"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"^forget: is not UTF-8 text$"):
        PairSet.from_jsonl(tmp_path / "forget.jsonl")


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no pairs"):
        PairSet.from_jsonl(tmp_path / "forget.jsonl")


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(DataError, match="not a readable image"):
        EncodedImage(b"GIF89a, or so it says").decode()
    whole = picture(1).data
    with pytest.raises(DataError, match="not a readable image"):
        EncodedImage(whole[: len(whole) // 2]).decode()


@pytest.mark.parametrize("form", ["AVIF", "BLP", "DDS", "SPIDER", "ICNS", "PCX"])
def test_a_format_that_no_set_needs_is_refused_whole_or_damaged(form: str) -> None:
    """Damaged files of these would end in errors of many kinds, so their decoders aren't asked at all."""
    if form == "AVIF":  # not every Pillow can write one
        whole = base64.b64decode(AVIF)
    else:
        stream = io.BytesIO()
        picture(1).decode().convert({"BLP": "P", "SPIDER": "F"}.get(form, "RGB")).save(stream, format=form)
        whole = stream.getvalue()
    for data in (whole, whole[: len(whole) // 2], whole[:40]):
        for ask in (lambda data=data: EncodedImage(data).size, EncodedImage(data).decode):
            with pytest.raises(DataError, match="not a readable image"):
                ask()


@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_damage_anywhere_is_a_picture_or_one_kind_of_error(form: str) -> None:
    stream, draw = io.BytesIO(), random.Random(form)
    picture(1).decode().save(stream, format=form)
    for _ in range(150):
        data = bytearray(stream.getvalue())
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        image = EncodedImage(bytes(data[: draw.choice((len(data), draw.randrange(len(data))))]))
        for ask in (lambda image=image: image.size, image.decode):
            with suppress(DataError):
                ask()


def test_overlap_is_taken_out_by_image_bytes() -> None:
    forget, retain = pair_set("forget", 3), pair_set("retain", 5, first_picture=2)
    rest = retain.without_images_of(forget)
    assert len(rest) == 4
    with pytest.raises(DataError):
        forget.without_images_of(forget)


def test_a_sample_is_even_and_always_the_same() -> None:
    items = pair_set("retain", 10)
    assert items.sample(4) == items.sample(4)
    places = [items.pairs.index(p) for p in items.sample(4)]
    assert all(start <= place < end for place, (start, end) in zip(places, pairwise([0, 2, 5, 7, 10]), strict=True))
    assert items.sample(10) is items


def test_no_repr_shows_what_a_pair_holds() -> None:
    items = pair_set("forget", 2)
    for text in (repr(items), repr(items.pairs[0]), repr(items.pairs[0].image)):
        assert "Ada" not in text
        assert "person" not in text
        assert "PNG" not in text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_size_in_the_header_is_the_size_of_the_picture(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, format=form, exif=exif)
    image = EncodedImage(stream.getvalue())
    assert image.size == image.decode().size


def png_with(**text: str) -> EncodedImage:
    told, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, value in text.items():
        told.add_itxt(key.replace("_", " "), value)
    Image.new("RGB", (30, 20)).save(stream, format="PNG", pnginfo=told)
    return EncodedImage(stream.getvalue())


def test_a_png_that_tells_its_orientation_in_words_has_the_size_of_the_picture() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    profile = exif.tobytes()
    words = (
        {"XML:com.adobe.xmp": '<x tiff:Orientation="6"/>'},
        {"Raw_profile_type_exif": f"\nexif\n{len(profile)}\n{profile.hex()}\n"},
    )
    for told in words:
        image = png_with(**told)
        assert image.size == image.decode().size == (20, 30)


def test_a_picture_whose_file_talks_nonsense_of_it_is_refused() -> None:
    image = png_with(xmp="not as bytes")
    for ask in (lambda: image.size, image.decode):
        with pytest.raises(DataError, match="not a readable image"):
            ask()


def test_what_is_no_image_has_no_size() -> None:
    with pytest.raises(DataError, match="not a readable image"):
        _ = EncodedImage(b"no picture").size
