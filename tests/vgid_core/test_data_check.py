import io
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from typer.testing import CliRunner, Result

from tests.vgid_core.sources import jpeg, write_mllmu
from tests.vgid_core.tiny import pair_set
from vgid_core import DataError, EncodedImage, Pair, PairSet
from vgid_core.cli.data import app
from vgid_core.data.check import DataReport, check_data
from vgid_core.data.leaks import SIMILAR, Sighting, names_in
from vgid_core.data.readers import Reading
from vgid_core.models.texts import ModelTexts


def photo(seed: int, quality: int = 90, side: int = 48) -> EncodedImage:
    return EncodedImage(jpeg(seed, quality, side))


def reading(name: str, *items: Pair | DataError) -> Reading:
    return Reading(name, items)


def kinds(report: DataReport) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.places for finding in report.findings}


def plain(count: int, first: int = 0) -> list[Pair]:
    return [Pair(photo(first + n), f"Question {n}?", f"answer number {n}") for n in range(count)]


def test_clean_sets_have_no_findings_and_are_counted() -> None:
    forget, retain = plain(3), plain(4, first=10)
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
    report = check_data(reading("forget", *plain(2)), reading("retain", *plain(2)))
    assert report.has_errors
    assert kinds(report) == {"leaked-image": ("retain",)}


def test_a_probe_that_repeats_the_forget_set_measures_nothing_new() -> None:
    forget = plain(2)
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
    texts = ModelTexts(str(tiny_folder))
    answer = "This is Ada Quill."
    length = texts.answer_length(answer)
    assert 0 < length < len(answer)
    items = [
        Pair(photo(1), "Who?", answer),
        Pair(photo(2), "Who?<|end|>", answer),
        Pair(photo(3), "<|im_end|>?", answer),
    ]
    report = check_data(reading("forget", *items), texts=texts, max_new_tokens=length)
    assert report.unit == "tokens"
    assert kinds(report) == {"control-token": ("forget[1].question",)}
    assert report.has_errors
    assert "long-answer" in kinds(check_data(reading("forget", *items), texts=texts, max_new_tokens=length - 1))


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
    assert Sighting.of(original).look @ Sighting.of(again).look >= SIMILAR
    assert Sighting.of(original).look @ Sighting.of(photo(seed + 1).decode()).look < SIMILAR


def test_blank_pictures_look_like_nothing() -> None:
    grey, white = (Sighting.of(Image.new("RGB", (32, 32), shade)) for shade in ("grey", "white"))
    assert not grey.look.any()
    assert not white.look.any()


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


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "160"})


def sets(folder: Path, *named: PairSet) -> Sequence[Path]:
    files = []
    for items in named:
        items.write_jsonl(folder / f"{items.name}.jsonl")
        files.append(folder / f"{items.name}.jsonl")
    return files


def test_the_command_prints_places_and_nothing_that_a_pair_holds(tmp_path: Path) -> None:
    forget, retain = sets(tmp_path, pair_set("forget", 4), pair_set("retain", 8, first_picture=3))
    done = run(forget, "--retain", retain, "--probe", f"again={forget}")
    assert done.exit_code == 0
    for expected in ("forget", "leaked-image", "retain[0]", "trained-probe", "again[0]", "and 1 more"):
        assert expected in done.stdout
    for held in ("Ada", "Quill", "person", "born", "teal"):
        assert held not in done.stdout


def test_the_command_as_json(tmp_path: Path, tiny_folder: Path) -> None:
    forget, retain = sets(tmp_path, pair_set("forget", 4), pair_set("retain", 8, first_picture=3))
    done = run(forget, "--retain", retain, "--model", tiny_folder, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"], report["unit"]) == (0, True, "tokens")
    assert [(one["name"], one["pairs"]) for one in report["sets"]] == [("forget", 4), ("retain", 8)]
    assert "leaked-image" in {finding["kind"] for finding in report["findings"]}
    assert "Ada" not in done.stdout


def test_the_command_ends_with_one_on_errors_and_says_all_of_them(tmp_path: Path) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 3))
    with forget.open("a") as lines:
        lines.write('{"image": "gone.png", "question": "q", "answer": "a"}\n[]\n')
    done = run(forget, "--retain", tmp_path / "nowhere.jsonl")
    assert done.exit_code == 1
    for place in ("forget[3].image", "forget[4]", "no such file or folder"):
        assert place in done.stdout


@pytest.mark.parametrize("option", ["--retain", "--utility", "--probe"])
def test_the_command_names_a_set_that_is_called_nothing(tmp_path: Path, option: str) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 3))
    done = run(forget, option, "" if option != "--probe" else "more=#")
    assert done.exit_code == 1
    assert "names no file or folder" in done.stdout


def test_the_command_reads_other_formats_and_says_what_is_left_out(tmp_path: Path) -> None:
    done = run(f"mllmu:{write_mllmu(tmp_path)}#forget_5")
    assert done.exit_code == 0
    assert "forget: left out 4 questions of Mask_Task" in done.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--probe", "nameless"], "NAME=SOURCE"),
        (["--probe", "retain=x"], "name of its own"),
        (["--probe", "a=x", "--probe", "a=y"], "name of its own"),
        (["--model", "/nowhere"], "no folder /nowhere"),
        (["--model", "tests/nothing"], "isn't asked of the hub"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_wrong_usage_ends_with_two(tmp_path: Path, more: list[str], said: str) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 1))
    done = run(forget, *more)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_model_whose_processor_isnt_there_ends_with_two(tmp_path: Path) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 1))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    done = run(forget, "--model", tmp_path / "model")
    assert done.exit_code == 2
    assert "no processor" in " ".join(done.output.split())


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_of_byte_is_survived(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for name in ("x.jsonl", "x.parquet", "full.json", "split.json", "metadata.csv"):
        (tmp_path / name).write_bytes(rng.randbytes(300))
    for source in ("x.jsonl", "x.parquet", "", "full.json"):
        assert run(tmp_path / source).exit_code == 1
    for form in ("jsonl", "folder", "mllmu", "clear", "fiubench", "dataset"):
        assert run(f"{form}:{tmp_path}").exit_code == 1


def test_neither_readers_nor_the_command_load_what_they_may_not_need() -> None:
    code = "import sys, vgid_core.cli.data; print([m for m in ('torch', 'pyarrow', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_models_context_has_no_room_for_is_an_error(tiny_folder: Path) -> None:
    texts = ModelTexts(str(tiny_folder))
    assert texts.room == 256
    items = [Pair(photo(1), "Who?", "Ada " * 80), Pair(photo(2), "Who?", "Ada " * 300)]
    report = check_data(reading("forget", *items), texts=texts, max_new_tokens=512)
    assert kinds(report) == {"no-room": ("forget[1].answer",)}
    assert report.has_errors
