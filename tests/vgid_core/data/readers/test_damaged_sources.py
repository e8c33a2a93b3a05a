"""Sources that are damaged, or made to do harm: each fault is named by its place, and costs no more than that."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from tests.vgid_core.support.sources import TEXT, cell, jpeg, write_fiubench, write_parquet
from vgid_core import DataError, PairSet
from vgid_core.data.readers import read, read_set

NOT_JSON = {"digits": "9" * 5000, "nested": "[" * 100_000}
COLUMNS = {"image": datasets.Image(), "question": TEXT, "answer": TEXT}
NO_NAMES = {"nul": r"a\u0000b.png", "half": r"\ud800.png", "long": "x" * 5000}


def test_half_a_character_is_found_while_a_source_is_read(tmp_path: Path) -> None:
    root = write_fiubench(tmp_path / "dataset")
    text = (root / "full.json").read_text()
    (root / "full.json").write_text(text.replace("Flu 1.", r"Flu \ud800."))
    fields = [item.field if isinstance(item, DataError) else None for item in read(str(root), "forget").items]
    assert fields == [None, "forget[1].answer", None]


@pytest.mark.parametrize("form", ["x.jsonl", "metadata.jsonl"])
@pytest.mark.parametrize("bad", [*NOT_JSON, *NO_NAMES])
def test_a_line_that_cannot_be_used_costs_that_line_alone(tmp_path: Path, form: str, bad: str) -> None:
    """A number of 5,000 digits, nesting without end, and names that no file can have."""
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    key = "file_name" if form == "metadata.jsonl" else "image"
    good = json.dumps({key: "0.jpg", "question": "q", "answer": "a"})
    line = f'{{"{key}": "{NO_NAMES[bad]}", "question": "q", "answer": "a"}}' if bad in NO_NAMES else NOT_JSON[bad]
    (tmp_path / form).write_text(f"{good}\n{line}\n{good}\n")
    found = read(str(tmp_path / form if form == "x.jsonl" else tmp_path), "forget").items
    wrong = [str(item) if isinstance(item, DataError) else None for item in found]
    assert (wrong[0], wrong[2]) == (None, None)
    assert str(wrong[1]).startswith("forget[1].image: " if bad in NO_NAMES else "forget[1]: is not JSON")
    assert len(str(wrong[1])) < 100


@pytest.mark.parametrize("form", ["x.jsonl", "metadata.jsonl"])
def test_a_link_to_itself_costs_its_line_alone(tmp_path: Path, form: str) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    rows = [{"image": name, "file_name": name, "question": "q", "answer": "a"} for name in ("loop.jpg", "0.jpg")]
    (tmp_path / form).write_text("\n".join(map(json.dumps, rows)))
    found = read(str(tmp_path / form if form == "x.jsonl" else tmp_path), "forget")
    assert [str(item) for item in found.items if isinstance(item, DataError)] == ["forget[0].image: no such file"]
    assert len(found.items) == 2
    assert not found.left_out


def test_fiubench_names_the_photo_that_is_a_link_to_itself(tmp_path: Path) -> None:
    photo = write_fiubench(tmp_path / "dataset") / "SFHQ" / "00000001.jpg"
    photo.unlink()
    photo.symlink_to(photo)
    with pytest.raises(DataError, match=r"^forget\[1\].image: no such file$"):
        read_set(str(tmp_path / "dataset"), "forget")


@pytest.mark.parametrize("form", ["x.jsonl", "metadata.jsonl"])
def test_a_mark_of_the_byte_order_is_no_part_of_the_first_line(tmp_path: Path, form: str) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    line = json.dumps({"image": "0.jpg", "file_name": "0.jpg", "question": "q", "answer": "a"})
    (tmp_path / form).write_text(line, encoding="utf-8-sig")
    assert len(read_set(str(tmp_path / form if form == "x.jsonl" else tmp_path))) == 1
    assert len(PairSet.from_jsonl(tmp_path / form)) == 1


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
def test_json_without_end_is_refused_by_the_benchmarks_readers(tmp_path: Path, text: str) -> None:
    root = write_fiubench(tmp_path / "dataset")
    (root / "full.json").write_text(text)
    with pytest.raises(DataError, match=r"^forget: is neither a JSON list nor a JSON object a line$"):
        read_set(str(root), "forget")
    rows = [{"image": cell(jpeg(5)), "ID": "000", "metadata": text}]
    write_parquet(tmp_path / "ft", rows, {"image": datasets.Image(), "ID": TEXT, "metadata": TEXT})
    with pytest.raises(DataError, match=r"^forget\[0\]: 'metadata' is no JSON list of objects$"):
        read_set(str(tmp_path / "ft"), "forget")


@pytest.mark.parametrize("path", [r"a\u0000b.jpg", "x" * 5000])
def test_fiubench_names_the_photo_whose_path_is_none(tmp_path: Path, path: str) -> None:
    root = write_fiubench(tmp_path / "dataset")
    text = (root / "full.json").read_text()
    (root / "full.json").write_text(text.replace("./dataset/SFHQ/00000001.jpg", path))
    with pytest.raises(DataError, match=r"^forget\[1\].image: (is not a valid file name|can't be read)"):
        read_set(str(root), "forget")


@pytest.mark.parametrize("ids", [3, None, "00000001", [["00000001"]]])
def test_fiubench_refuses_a_split_that_is_no_list_of_ids(tmp_path: Path, ids: object) -> None:
    root = write_fiubench(tmp_path / "dataset")
    (root / "split.json").write_text(json.dumps({"forget5": ids}))
    for choice in ("forget5", "retain"):
        with pytest.raises(DataError, match=r"^forget: split\.json's 'forget5' is no list of ids$"):
            read_set(f"{root}#{choice}", "forget")


@pytest.mark.parametrize("ids", [["0", "00000001"], [1]])
def test_fiubench_refuses_a_split_of_somebody_who_is_not_there(tmp_path: Path, ids: list[object]) -> None:
    """Else whoever is to be forgotten would be in the retain set, for an id that is written in another way."""
    root = write_fiubench(tmp_path / "dataset")
    (root / "split.json").write_text(json.dumps({"forget5": ids}))
    for choice in ("forget5", "retain"):
        with pytest.raises(
            DataError, match=rf"^forget: split\.json's 'forget5' has 1 of {len(ids)} ids that nobody has$"
        ):
            read_set(f"{root}#{choice}", "forget")


def test_fiubench_refuses_people_whom_a_split_cannot_name(tmp_path: Path) -> None:
    root = write_fiubench(tmp_path / "dataset")
    text = (root / "full.json").read_text()
    (root / "full.json").write_text(text.replace('"unique_id": "00000001"', '"unique_id": ["00000001"]'))
    with pytest.raises(DataError, match="'unique_id' is no id"):
        read_set(f"{root}#retain", "forget")


@pytest.mark.parametrize("form", ["", "jsonl:"])
@pytest.mark.parametrize("source", ["x" * 5000, "a\0b.jsonl", "\ud800.jsonl"])
def test_a_source_that_no_file_can_be_called_is_refused(form: str, source: str) -> None:
    with pytest.raises(DataError, match=r"^forget: (can't be read: file name too long|is not a valid file name)$"):
        read_set(form + source, "forget")


@pytest.mark.parametrize("source", ["", "#train", "jsonl:", "dataset:#train"])
def test_a_source_without_a_path_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't the present folder, which '.' names."""
    write_parquet(tmp_path, [{"image": cell(jpeg(0)), "question": "q", "answer": "a"}], COLUMNS)
    monkeypatch.chdir(tmp_path)
    assert len(read_set(".", "forget")) == 1
    with pytest.raises(DataError, match=r"^forget: names no file or folder; the present folder is '\.'$"):
        read_set(source, "forget")
    with pytest.raises(DataError, match=r"^source: names no file or folder"):
        read_set(source)
