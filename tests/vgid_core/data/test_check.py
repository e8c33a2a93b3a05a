"""Checks of a run's sets: every finding names its kind and its place."""

from pathlib import Path

import pytest

from tests.vgid_core.support.sources import numbered_pairs, photo
from vgid_core import DataError, EncodedImage, Pair
from vgid_core.data.check import DataReport, check_data
from vgid_core.data.readers import ReadResult
from vgid_core.models.token_counter import TokenCounter


def reading(name: str, *items: Pair | DataError) -> ReadResult:
    return ReadResult(name, items)


def kinds(report: DataReport) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.places for finding in report.findings}


def test_clean_sets_have_no_findings_and_are_counted() -> None:
    forget, retain = numbered_pairs(3), numbered_pairs(4, first=10)
    report = check_data(reading("forget", *forget, Pair(forget[0].image, "Else?", "b")), reading("retain", *retain))
    assert report.findings == ()
    assert not report.has_errors
    first, second = report.sets
    assert (first.name, first.pairs, first.images) == ("forget", 4, 3)
    assert first.image_bytes == sum(len(pair.image.data) for pair in forget)
    assert (first.smallest_image, first.largest_image) == ((48, 48), (48, 48))
    assert first.answers is not None
    assert (first.answers.smallest, first.answers.median, first.answers.largest) == (1, 15, 15)
    assert (second.name, second.pairs, second.images) == ("retain", 4, 4)


def test_what_no_run_would_take_is_an_error() -> None:
    whole = photo(1)
    items = [
        Pair(EncodedImage(b"no image"), "Who?", "Ada"),
        Pair(whole, "  ", "Ada"),
        Pair(whole, "Who?", ""),
        DataError("no such file", "forget[3].image"),
        Pair(EncodedImage(whole.data[: len(whole.data) // 2]), "Who?", "Bo"),
    ]
    report = check_data(reading("forget", *items), reading("retain"))
    assert report.has_errors
    assert {finding.level for finding in report.findings} == {"error"}
    assert kinds(report) == {
        "image": ("forget[0].image", "forget[4].image"),
        "empty": ("forget[1].question", "forget[2].answer"),
        "unreadable": ("forget[3].image",),
        "no-pairs": ("retain",),
    }


def test_repeats_within_a_set() -> None:
    one = photo(1)
    items = [
        Pair(one, "Who is it?", "Ada"),
        Pair(one, "Who  is IT?", "ada"),
        Pair(one, "Who is it?", "Bo"),
        Pair(EncodedImage(one.data), "Where?", "Here"),
        Pair(photo(2), "Who is it?", "Bo"),
    ]
    report = check_data(reading("forget", *items))
    assert not report.has_errors
    assert kinds(report) == {
        "duplicate": ("forget[1] and forget[0]",),
        "conflict": ("forget[2] and forget[0]",),
        "same-image": ("forget[3].image",),
    }


@pytest.mark.parametrize("role", ["retain", "utility"])
def test_what_must_stay_shares_nothing_with_what_must_go(role: str) -> None:
    forget = [
        Pair(photo(1), "Who?", "This is Ada Quill."),
        Pair(photo(2), "Job?", "she mends the clocks of the old town"),
    ]
    other = reading(
        role,
        Pair(photo(1), "Colour?", "teal"),
        Pair(photo(2, quality=55, side=96), "Colour?", "teal"),
        Pair(photo(7), "Where does Ada Quill live?", "there"),
        Pair(photo(8), "Job?", "She mends the clocks of the old town."),
        Pair(photo(9), "Who?", "This is Bo Marsh."),
    )
    report = check_data(reading("forget", *forget), **{role: other})
    assert not report.has_errors
    assert kinds(report) == {
        "leaked-image": (f"{role}[0]",),
        "similar-image": (f"{role}[1]",),
        "leaked-name": (f"{role}[2]",),
        "leaked-answer": (f"{role}[3]",),
    }


def test_a_retain_set_that_a_run_would_empty_is_an_error() -> None:
    report = check_data(reading("forget", *numbered_pairs(2)), reading("retain", *numbered_pairs(2)))
    assert report.has_errors
    assert kinds(report) == {"leaked-image": ("retain",)}


def test_a_probe_that_repeats_the_forget_set_measures_nothing_new() -> None:
    forget = numbered_pairs(2)
    other_photo, other_words = Pair(photo(30), "Question 0?", "x"), Pair(forget[0].image, "Put otherwise?", "x")
    report = check_data(reading("forget", *forget), probes=[reading("held_out", other_photo, other_words, forget[1])])
    assert kinds(report) == {"trained-probe": ("held_out[2]",)}


def test_control_tokens_and_long_answers_without_a_model() -> None:
    items = [
        Pair(photo(1), "Who is <image> this?", "Ada"),
        Pair(photo(2), "Who?", "Ada<|im_end|>"),
        Pair(photo(3), "Is 3 < 4 and 5 > 4?", "word " * 26),
        Pair(photo(4), "Who?", "word " * 24),
    ]
    report = check_data(reading("forget", *items))
    assert report.unit == "characters"
    assert not report.has_errors
    assert kinds(report) == {
        "control-token": ("forget[0].question", "forget[1].answer"),
        "long-answer": ("forget[2].answer",),
    }


def test_a_model_counts_tokens_and_refuses_its_own_control_tokens(tiny_folder: Path) -> None:
    texts = TokenCounter(str(tiny_folder))
    answer = "This is Ada Quill."
    length = texts.answer_length(answer)
    assert 0 < length < len(answer)
    items = [
        Pair(photo(1), "Who?", answer),
        Pair(photo(2), "Who?<|end|>", answer),
        Pair(photo(3), "<|im_end|>?", answer),
        Pair(photo(4), "Who?", answer, person="Ada <|user|>"),
    ]
    report = check_data(reading("forget", *items), texts=texts, max_new_tokens=length)
    assert report.unit == "tokens"
    assert kinds(report) == {"control-token": ("forget[1].question", "forget[3].person")}
    assert report.has_errors
    assert "long-answer" in kinds(check_data(reading("forget", *items), texts=texts, max_new_tokens=length - 1))


def test_what_a_models_context_has_no_room_for_is_an_error(tiny_folder: Path) -> None:
    texts = TokenCounter(str(tiny_folder))
    assert texts.context_length == 256
    items = [Pair(photo(1), "Who?", "Ada " * 80), Pair(photo(2), "Who?", "Ada " * 300)]
    report = check_data(reading("forget", *items), texts=texts, max_new_tokens=512)
    assert kinds(report) == {"no-room": ("forget[1].answer",)}
    assert report.has_errors
