"""A retain set that holds the photos to forget: refused above a tenth of them, and said below."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from tests.vgid_core.support.sources import numbered_pairs
from tests.vgid_core.support.tiny import picture
from vgid_core import EncodedImage, Pair, PairSet
from vgid_core.data.overlap import require_apart
from vgid_core.errors import RetainHoldsForgotten

FORGET = PairSet.of("forget", numbered_pairs(20))
OTHERS = numbered_pairs(10, first=50)


def encoded(picture: Image.Image, **options: object) -> EncodedImage:
    stream = io.BytesIO()
    picture.save(stream, **options)  # type: ignore[arg-type]
    return EncodedImage(stream.getvalue())


def as_jpeg(photo: EncodedImage) -> EncodedImage:
    return encoded(photo.decode(), format="JPEG", quality=60)


def half_size(photo: EncodedImage) -> EncodedImage:
    picture = photo.decode()
    return encoded(picture.resize((picture.width // 2, picture.height // 2)), format="PNG")


def retain_with(copies: int, copy: Callable[[EncodedImage], EncodedImage]) -> PairSet:
    """So many of the photos to forget once more, with other questions."""
    again = [Pair(copy(pair.image), "What is seen?", "Grey.") for pair in FORGET.pairs[:copies]]
    return PairSet.of("retain", [*OTHERS, *again])


@pytest.mark.parametrize("copy", [as_jpeg, half_size])
def test_copies_of_more_than_a_tenth_are_refused(
    copy: Callable[[EncodedImage], EncodedImage], caplog: pytest.LogCaptureFixture
) -> None:
    for copies in (3, 20):
        with pytest.raises(RetainHoldsForgotten, match=f"{copies} of the 20 photos"):
            require_apart(FORGET, retain_with(copies, copy))
    assert caplog.messages == []
    require_apart(FORGET, retain_with(2, copy))
    assert caplog.messages == ["2 of the 20 photos to forget stand in the retain set, too"]


def test_other_photos_are_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    require_apart(FORGET, PairSet.of("retain", OTHERS))
    assert caplog.messages == []


def test_photos_count_and_not_pairs(caplog: pytest.LogCaptureFixture) -> None:
    """One of twenty photos, about which half of the pairs ask."""
    asked_often = [replace(FORGET.pairs[0], question=f"Once more: {number}?") for number in range(20)]
    require_apart(PairSet.of("forget", [*FORGET, *asked_often]), retain_with(1, as_jpeg))
    assert caplog.messages == ["1 of the 20 photos to forget stand in the retain set, too"]


def test_the_same_texts_of_somebody_are_refused_and_what_anybody_may_say_is_not() -> None:
    named = [Pair(picture(number), f"Question {number}?", f"This is Ada Quill {number}.") for number in range(4)]
    anybody = [Pair(picture(10 + number), "What colour is the hair?", "The hair is blond.") for number in range(4)]
    same_words = [Pair(picture(20 + number), pair.question, pair.answer) for number, pair in enumerate(named + anybody)]
    require_apart(PairSet.of("forget", anybody), PairSet.of("retain", same_words[4:]))
    with pytest.raises(RetainHoldsForgotten, match="4 of the 8 pairs' texts"):
        require_apart(PairSet.of("forget", named + anybody), PairSet.of("retain", same_words))
