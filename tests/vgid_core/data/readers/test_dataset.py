"""🤗 datasets on disk: written by the library itself, read without it."""

from pathlib import Path

import datasets
import pytest

from tests.vgid_core.support.sources import TEXT, cell, jpeg, table, write_parquet
from vgid_core import DataError
from vgid_core.data.readers import read, read_set

COLUMNS = {"image": datasets.Image(), "question": TEXT, "answer": TEXT}
ROWS = [{"image": cell(jpeg(n // 2)), "question": f"Who is {n}?", "answer": f"Person {n}."} for n in range(6)]


def test_a_dataset_on_disk_keeps_its_bytes(tmp_path: Path) -> None:
    table(ROWS, COLUMNS).save_to_disk(tmp_path / "set", num_shards=2)
    pairs = read_set(str(tmp_path / "set"), "forget")
    assert [(pair.question, pair.answer) for pair in pairs] == [(row["question"], row["answer"]) for row in ROWS]
    assert [pair.image.data for pair in pairs] == [jpeg(n // 2) for n in range(6)]
    assert pairs.pairs[0].image is pairs.pairs[1].image


def test_a_shuffled_and_narrowed_dataset_is_read_as_it_was_saved(tmp_path: Path) -> None:
    shuffled = table(ROWS, COLUMNS).shuffle(seed=1).select(range(4))
    shuffled.save_to_disk(tmp_path / "set")
    assert [pair.question for pair in read_set(str(tmp_path / "set"))] == shuffled["question"][:]


def test_a_dataset_of_several_splits_wants_one_named(tmp_path: Path) -> None:
    whole = table(ROWS, COLUMNS)
    datasets.DatasetDict(train=whole.select(range(4)), test=whole.select(range(4, 6))).save_to_disk(tmp_path / "sets")
    assert len(read_set(f"{tmp_path / 'sets'}#test")) == 2
    assert len(read_set(f"dataset:{tmp_path / 'sets'}#train")) == 4
    for choice in ("", "#validation", "#.."):
        with pytest.raises(DataError, match="choose a split: '#' and one of train, test"):
            read_set(f"{tmp_path / 'sets'}{choice}")


def write_shards(folder: Path, *names: str) -> Path:
    """Parquet files, each with the next row: what it asks says which."""
    folder.mkdir(parents=True)
    for row, name in zip(ROWS, names, strict=False):
        table([row], COLUMNS).to_parquet(folder / name)
    return folder


HUB = ("test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002-0f3c.parquet")


def test_splits_as_the_hub_holds_them_want_one_named(tmp_path: Path) -> None:
    """The folder that push_to_hub writes, and the one around it."""
    inside = write_shards(tmp_path / "set" / "data", *HUB)
    for place in (inside, inside.parent):
        for form in ("", "dataset:"):
            assert [pair.question for pair in read_set(f"{form}{place}#train")] == ["Who is 1?", "Who is 2?"]
            assert [pair.question for pair in read_set(f"{form}{place}#test")] == ["Who is 0?"]
            for choice in ("", "#", "#validation", "#data"):
                with pytest.raises(DataError, match=r"^x: choose a split: '#' and one of test, train$"):
                    read_set(f"{form}{place}{choice}", "x")


def test_splits_are_told_from_names_as_datasets_tells_them(tmp_path: Path) -> None:
    names = ("my_train.parquet", "test.parquet", "training-2.parquet", "val 1.parquet")
    folder = write_shards(tmp_path / "set", *names)
    theirs = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / ".cache"))
    assert set(theirs) == {"train", "validation", "test"}
    for split, rows in theirs.items():
        assert [pair.question for pair in read_set(f"{folder}#{split}")] == rows["question"][:]
    with pytest.raises(DataError, match="one of train, test, validation"):
        read_set(str(folder))


@pytest.mark.parametrize("names", [HUB[1:], ("a.parquet", "b.parquet"), ("contested.parquet", "train.parquet")])
@pytest.mark.parametrize("inside", ["", "data"])
def test_parquet_files_of_at_most_one_split_are_one_set(tmp_path: Path, names: tuple[str, ...], inside: str) -> None:
    folder = write_shards(tmp_path / "set" / inside, *names)
    expected = ["Who is 0?", "Who is 1?"]
    assert [pair.question for pair in read_set(str(tmp_path / "set"))] == expected
    assert [pair.question for pair in read_set(f"dataset:{folder}")] == expected
    if names == HUB[1:]:
        assert [pair.question for pair in read_set(f"{folder}#train")] == expected
    said = "no splits to choose from" if "a.parquet" in names else "choose a split: '#' and one of train$"
    with pytest.raises(DataError, match=said):
        read_set(f"{folder}#test")


def test_rows_without_an_image_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [*ROWS[:2], {"image": None, "question": "What else?", "answer": "Nothing."}, ROWS[3]]
    write_parquet(tmp_path, rows, COLUMNS)
    found = read(str(tmp_path))
    assert len(found.pair_set()) == 3
    assert found.left_out == {"rows without an image": 1}


def test_a_row_that_names_a_file_is_no_image(tmp_path: Path) -> None:
    rows = [ROWS[0], {"image": {"bytes": None, "path": "/etc/hostname"}, "question": "a", "answer": "b"}]
    write_parquet(tmp_path, rows, {**COLUMNS, "image": {"bytes": datasets.Value("binary"), "path": TEXT}})
    with pytest.raises(DataError, match=r"forget\[1\].image: names a file"):
        read_set(str(tmp_path), "forget")


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    table(ROWS, COLUMNS).save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "data-00000-of-00001.arrow").write_bytes(b"x" * 64)
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow is no readable Arrow stream"):
        read_set(str(tmp_path / "set"))


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    file = next(write_parquet(tmp_path, ROWS, COLUMNS).iterdir())
    data = file.read_bytes()
    file.write_bytes(data[:4] + b"x" * 2000 + data[2004:])
    with pytest.raises(DataError, match=rf"^forget: {file.name} is damaged$"):
        read_set(str(tmp_path), "forget")


def test_a_folder_around_a_dataset_is_none_itself(tmp_path: Path) -> None:
    write_shards(tmp_path / "inside", "a.parquet")
    with pytest.raises(DataError, match="is in no format that could be recognised"):
        read_set(str(tmp_path))
