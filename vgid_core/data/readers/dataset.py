"""🤗 datasets on disk, as `save_to_disk` and `push_to_hub` write them, with columns image, question, answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vgid_core.data.json_text import parse_json
from vgid_core.data.pairs import DataError, EncodedImage, Pair
from vgid_core.data.readers.reading import Item, LeftOut
from vgid_core.data.readers.tables import arrow_rows, image_in, parquet_files, parquet_rows, text_in

COLUMNS = ("image", "question", "answer")
# A shard's name by `push_to_hub`; older releases append a fingerprint.
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}.*\.parquet")
# Words by which `load_dataset` finds the split in any other file's name (SPLIT_KEYWORDS of datasets).
_SPLIT_WORDS = {
    split: re.compile(rf"(?:^|[-._ 0-9])(?:{words})[-._ 0-9]")
    for split, words in {
        "train": "train|training",
        "validation": "validation|valid|dev|val",
        "test": "test|testing|eval|evaluation",
    }.items()
}


def recognises(path: Path) -> bool:
    """Whether it is a folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def tables(path: Path) -> list[Path]:
    """The Parquet files of `path`, or of its folder data/, where `push_to_hub` puts them."""
    return parquet_files(path) or ([] if recognises(path) else parquet_files(path / "data"))


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """Yields one pair for each row. choice: the split, where there are several."""
    images: dict[str, EncodedImage] = {}
    if parquet := tables(path):
        yield from _pairs(parquet_rows(_of_split(parquet, choice), COLUMNS), images)
        return
    if (path / "dataset_dict.json").is_file():
        path = path / _choose_split(_read_object(path / "dataset_dict.json").get("splits"), choice)
    else:
        _refuse_choice(choice, "holds one split, and none can be chosen")
    for file in _arrow_files(path):
        yield from _pairs(arrow_rows(file), images)


def _pairs(rows: Iterable[Mapping[str, Any]], images: dict[str, EncodedImage]) -> Iterator[Item]:
    """Pairs whose equal photos share one object: each row has a copy of the bytes."""
    for row in rows:
        try:
            image = image_in(row.get("image"))
            question, answer = text_in(row, "question", "question"), text_in(row, "answer", "answer")
        except DataError as error:
            yield error
            continue
        if image is None:
            yield LeftOut("rows without an image")
        else:
            yield Pair(images.setdefault(image.digest, image), question, answer)


def _of_split(files: Sequence[Path], choice: str | None) -> Sequence[Path]:
    """The files of the chosen split; all files if their names hold at most one split and none is chosen."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        if (split := _split_in_name(file.name)) is not None:
            splits.setdefault(split, []).append(file)
    if not splits:
        _refuse_choice(choice, "there are no splits to choose from: no Parquet file's name tells one")
    if choice is None and len(splits) < 2:
        return files
    return splits[_choose_split(list(splits), choice)]


def _split_in_name(name: str) -> str | None:
    """The split that a Parquet file's name holds, if any."""
    if shard := _SHARD.fullmatch(name):
        return shard[1]
    return next((split for split, words in _SPLIT_WORDS.items() if words.search(name)), None)


def _arrow_files(folder: Path) -> list[Path]:
    state = _read_object(folder / "state.json")
    if state.get("_indices_data_files"):
        raise DataError("was saved with an index over its rows by an old version of datasets: save it anew", "")
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError):
        raise DataError("state.json doesn't say which files hold the rows", "") from None
    if any(Path(name).name != name for name in names):
        raise DataError("state.json names a file outside its folder", "")
    return [folder / name for name in names]


def _choose_split(splits: object, choice: str | None) -> str:
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    chosen = choice or (names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names or Path(chosen).name != chosen:
        raise DataError(f"choose a split: '#' and one of {', '.join(names)}", "")
    return chosen


def _read_object(file: Path) -> Mapping[str, Any]:
    try:
        value = parse_json(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, Mapping):
        raise DataError(f"{file.name} is missing or no JSON object", "")
    return value


def _refuse_choice(choice: str | None, why: str) -> None:
    if choice is not None:
        raise DataError(why, "")
