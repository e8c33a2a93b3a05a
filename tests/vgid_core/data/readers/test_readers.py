"""Every format that `read_set` takes."""

import csv
import json
import logging
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from tests.vgid_core.support.sources import (
    TEXT,
    cell,
    jpeg,
    mllmu_person,
    write_clear,
    write_fiubench,
    write_mllmu,
    write_parquet,
)
from tests.vgid_core.support.tiny import pair_set
from vgid_core import DataError, PairSet
from vgid_core.data.readers import read, read_set
from vgid_core.data.readers.clear import CAPTION_QUESTION, NAME_QUESTION

COLUMNS = {"image": datasets.Image(), "question": TEXT, "answer": TEXT}
ROWS = [{"image": cell(jpeg(n // 2)), "question": f"Who is {n}?", "answer": f"Person {n}."} for n in range(6)]


def texts(pairs: PairSet) -> list[tuple[str, str]]:
    return [(pair.question, pair.answer) for pair in pairs]


def test_a_format_that_there_is_none_of_is_named(tmp_path: Path) -> None:
    pair_set("forget", 2).write_jsonl(tmp_path / "forget.jsonl")
    with pytest.raises(DataError, match="knows no format 'json'; there are jsonl, folder, "):
        read_set(f"json:{tmp_path / 'forget.jsonl'}")


def test_jsonl_reads_what_a_set_writes(tmp_path: Path) -> None:
    original = pair_set("forget", 5)
    original.write_jsonl(tmp_path / "forget.jsonl")
    for source in (str(tmp_path / "forget.jsonl"), f"jsonl:{tmp_path / 'forget.jsonl'}"):
        assert read_set(source) == original
        assert read_set(source, "retain").name == "retain"


def test_every_bad_line_is_found_and_keeps_its_place(tmp_path: Path) -> None:
    pair_set("x", 3).write_jsonl(tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    (tmp_path / "x.jsonl").write_text("\n".join([lines[0], "{nonsense", "", lines[1], '{"image": "gone"}', lines[2]]))
    found = read(str(tmp_path / "x.jsonl"), "forget")
    fields = [item.field if isinstance(item, DataError) else None for item in found.items]
    assert fields == [None, "forget[1]", None, "forget[3].question", None]
    with pytest.raises(DataError, match=r"forget\[1\]: is not JSON"):
        found.pair_set()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_folder_with_metadata(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(jpeg(number))
    rows = [
        {"file_name": f"photos/{n}.jpg", "question": q, "answer": "Yes, \u201cthis\u201d,\none.", "label": "x"}
        for n, q in [(0, "Who?"), (0, "Where, then?"), (1, "Who?")]
    ]
    if form == "csv":
        with (tmp_path / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        pairs = read_set(str(tmp_path), "forget")
    assert texts(pairs) == [(row["question"], row["answer"]) for row in rows]
    assert [pair.image.data for pair in pairs] == [jpeg(0), jpeg(0), jpeg(1)]
    assert pairs.pairs[0].image is pairs.pairs[1].image
    assert caplog.messages == ["forget: left out 1 images that no row of the metadata names"]
    if form == "jsonl":  # reading CSV, datasets leaves the file open, which a test may not
        cache = str(tmp_path / ".cache")
        theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train", cache_dir=cache)
        assert list(zip(theirs["question"], theirs["answer"], strict=True)) == texts(pairs)


def test_a_folder_reads_no_file_outside_itself(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(jpeg(0))
    (folder / "metadata.csv").write_text("file_name,question,answer\n../secret.jpg,a,b\n")
    with pytest.raises(DataError, match=r"set\[0\].image: lies outside"):
        read_set(str(folder))


@pytest.mark.parametrize("form", ["", "folder:"])
def test_metadata_alone_is_read_with_its_folder(tmp_path: Path, form: str) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,question,answer\n0.jpg,a,b\n")
    with pytest.raises(DataError, match=r"^forget: is a file: name the folder that holds it$"):
        read_set(f"{form}{tmp_path / 'metadata.csv'}", "forget")


def test_two_metadata_files_are_refused(tmp_path: Path) -> None:
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="holds both"):
        read_set(str(tmp_path))


def test_mllmu_takes_generation_questions_with_an_image_and_counts_the_rest(tmp_path: Path) -> None:
    root = write_mllmu(tmp_path)
    found = read(str(root / "forget_5"), "forget")
    pairs = found.pair_set()
    assert texts(pairs) == [(f"Where does person {n} live?", f"In city {n}.") for n in range(2)]
    assert [pair.image.data for pair in pairs] == [jpeg(0), jpeg(1)]
    assert found.left_out == {
        "questions of Generation_Task that are asked without an image": 2,
        "questions of Mask_Task": 4,
        "questions of Classification_Task": 4,
        "questions for the biography": 2,
    }
    assert read_set(f"mllmu:{root / 'forget_5'}", "forget") == pairs
    assert read_set(f"mllmu:{root}#forget_5", "forget") == pairs
    assert read_set(f"{root}#forget_5", "forget") == pairs
    assert read_set(str(next((root / "forget_5").iterdir())), "forget") == pairs


def test_mllmu_has_two_more_tasks(tmp_path: Path) -> None:
    root = write_mllmu(tmp_path)
    masked = read_set(f"mllmu:{root}#forget_5,mask")
    assert [pair.answer for pair in masked] == ["city 0", "city 1"]
    assert all("__" in pair.question for pair in masked)
    picked = read_set(f"mllmu:{root / 'forget_5'}#classification")
    assert [pair.answer for pair in picked] == ["C", "C"]
    assert picked.pairs[0].question.startswith("Which city?\nA: w\nB: x\nC: y\nD: z\n")


def test_mllmu_test_set_shows_every_other_photo_of_the_forgotten_people_alone(tmp_path: Path) -> None:
    root = write_mllmu(tmp_path)
    expected = [jpeg(0), jpeg(1), jpeg(10), jpeg(11)]
    for source in (f"mllmu:{root}#Test_Set,people=forget_5", f"mllmu:{root / 'Test_Set'}#people=forget_5"):
        assert [pair.image.data for pair in read_set(source)] == expected
    assert len(read_set(f"mllmu:{root / 'Test_Set'}")) == 6


def test_mllmu_training_splits_have_questions_and_no_tasks(tmp_path: Path) -> None:
    source = str(write_mllmu(tmp_path) / "ft_Data")
    found = read(source)
    pairs = found.pair_set()
    assert found.left_out == {"questions without text, or without an answer": 1}
    assert texts(pairs) == [("Who?", "Ada."), ("Where?", "Here.")]
    assert pairs.pairs[0].image is pairs.pairs[1].image
    with pytest.raises(DataError, match="has no tasks"):
        read_set(f"{source}#mask")


@pytest.mark.parametrize("choice", ["", "#nonsense", "#people=forget_5", "#Test_Set,people=nobody", "#.."])
@pytest.mark.parametrize("form", ["", "mllmu:"])
def test_mllmu_says_what_can_be_chosen(tmp_path: Path, form: str, choice: str) -> None:
    with pytest.raises(DataError, match=r"choose a folder inside|nor a folder inside|there is no such folder"):
        read_set(f"{form}{write_mllmu(tmp_path / 'mllmu')}{choice}")


@pytest.mark.parametrize(
    ("changed", "choice", "said"),
    [
        ({"Generation_Task": "Where?"}, "", "is no list of objects"),
        ({"Generation_Task": [{"Question": "Where?", "Type": "Image_Textual"}]}, "", "no text in 'Ground_Truth'"),
        (
            {"Classification_Task": [{"Question": "Which?", "Correct_Answer": "A", "Options": ["w", "x"]}]},
            "#classification",
            "options that aren't named by letters",
        ),
        ({"image": "0.jpg"}, "", "is no image"),
        ({"images": 5, "image": None}, "", "no pairs"),
        ({"ID": [1, 2]}, "#people=forget_5", "no pairs"),
        ({"ID": 3.5}, "#people=forget_5", "no pairs"),
    ],
)
def test_mllmu_columns_of_other_types_are_said(tmp_path: Path, changed: dict[str, Any], choice: str, said: str) -> None:
    root = write_mllmu(tmp_path)
    row = {name: value for name, value in mllmu_person(0).items() if name != "Classification_Task"}
    (root / "odd").mkdir()
    parquet.write_table(
        pyarrow.Table.from_pylist([{**row, "image": cell(jpeg(0)), **changed}]), root / "odd" / "rows.parquet"
    )
    with pytest.raises(DataError, match=said):
        read_set(f"mllmu:{root / 'odd'}{choice}")


def test_clear_asks_what_a_photo_shows_and_leaves_out_what_has_none(tmp_path: Path) -> None:
    root = write_clear(tmp_path)
    captions = [(CAPTION_QUESTION, f"Person {n} reads.") for n in range(3)]
    pairs = read_set(str(root / "forget05"))
    assert texts(pairs) == captions
    assert [pair.image.data for pair in pairs] == [jpeg(n) for n in range(3)]
    mixed = read(f"clear:{root}#forget05+tofu")
    assert texts(mixed.pair_set()) == captions
    assert mixed.left_out == {"questions without an image": 2}
    named = read_set(f"clear:{root}#forget05,name")
    assert texts(named) == [(NAME_QUESTION, f"Name {n}") for n in range(3)]
    assert texts(read_set(f"clear:{root}#real_faces")) == [(NAME_QUESTION, "Ada")]


@pytest.mark.parametrize("choice", ["", "#forget99", "#forget05,real_faces", "#../clear/forget05"])
@pytest.mark.parametrize("form", ["", "clear:"])
def test_clear_says_what_can_be_chosen(tmp_path: Path, form: str, choice: str) -> None:
    with pytest.raises(DataError, match=r"choose one inside with '#'|takes one folder inside"):
        read_set(f"{form}{write_clear(tmp_path / 'clear')}{choice}")


@pytest.mark.parametrize("lines", [False, True])
def test_fiubench_by_its_splits(tmp_path: Path, lines: bool) -> None:
    root = write_fiubench(tmp_path / "dataset", lines)
    everyone = read_set(str(root), "forget")
    assert texts(everyone) == [("what illness?", f"Flu {n}.") for n in range(3)]
    assert [pair.image.data for pair in everyone] == [jpeg(n) for n in range(3)]
    assert read_set(str(root / "full.json"), "forget") == everyone
    assert [pair.answer for pair in read_set(f"fiubench:{root}#forget5")] == ["Flu 1."]
    assert [pair.answer for pair in read_set(f"fiubench:{root}#retain")] == ["Flu 2."]
    assert [pair.question for pair in read_set(f"{root}#forget1,paraphrased")] == ["ill?", "which?"]
    with pytest.raises(DataError, match="is none of forget1, forget5, forget10, retain5, retain"):
        read_set(f"{root}#forget20")


@pytest.mark.parametrize("choice", ["", "#forget5"])
def test_fiubench_names_its_file_that_is_not_there(tmp_path: Path, choice: str) -> None:
    with pytest.raises(DataError, match=r"^forget: holds no full\.json$"):
        read_set(f"fiubench:{tmp_path}{choice}", "forget")


def test_fiubench_without_its_photos_names_who_lacks_one(tmp_path: Path) -> None:
    root = write_fiubench(tmp_path / "dataset")
    (root / "SFHQ" / "00000001.jpg").unlink()
    with pytest.raises(DataError, match=r"^forget\[1\].image: no such file$"):
        read_set(str(root), "forget")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "no such file or folder"),
        ("set.txt", b"x", "is in no format that could be recognised"),
        ("set.parquet", b"PAR1, or so it says", "is no readable Parquet file"),
        ("set.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("set.jsonl", b"\n", "holds no pairs"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"^forget: .*{message}"):
        read_set(str(tmp_path / name), "forget")


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path, ROWS, COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install '\.\[data\]'"):
        read_set(str(tmp_path))


def test_a_choice_where_there_is_none_is_refused(tmp_path: Path) -> None:
    pair_set("x", 1).write_jsonl(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="nothing to choose"):
        read_set(f"{tmp_path / 'x.jsonl'}#test")


def test_a_path_may_hold_the_signs_that_otherwise_choose(tmp_path: Path) -> None:
    folder = tmp_path / "clear:no#1"
    folder.mkdir()
    pair_set("x", 1).write_jsonl(folder / "x.jsonl")
    assert len(read_set(str(folder / "x.jsonl"))) == 1
