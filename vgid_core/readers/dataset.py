"""🤗 datasets on disk: what `save_to_disk` writes, and Parquet files, with columns image, question, answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vgid_core.data import DataError, EncodedImage, Pair
from vgid_core.json_text import parsed
from vgid_core.readers.reading import Item, LeftOut
from vgid_core.readers.tables import arrow_rows, image_in, parquet_files, parquet_rows, text_in

COLUMNS = ("image", "question", "answer")


def recognises(path: Path) -> bool:
    """A folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """A pair a row. `choice` names the split, where there are several."""
    images: dict[str, EncodedImage] = {}
    if parquet := parquet_files(path):
        _refuse(choice, "a Parquet file has no splits to choose from")
        yield from _pairs(parquet_rows(parquet, COLUMNS), images)
        return
    if (path / "dataset_dict.json").is_file():
        path = path / _split(_object(path / "dataset_dict.json").get("splits"), choice)
    else:
        _refuse(choice, "holds one split, and none can be chosen")
    for file in _arrow_files(path):
        yield from _pairs(arrow_rows(file), images)


def _pairs(rows: Iterable[Mapping[str, Any]], images: dict[str, EncodedImage]) -> Iterator[Item]:
    """Rows about one photo hold its bytes each time; here they share them."""
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


def _arrow_files(folder: Path) -> list[Path]:
    state = _object(folder / "state.json")
    if state.get("_indices_data_files"):
        raise DataError("was saved with an index over its rows by an old version of datasets: save it anew", "")
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError):
        raise DataError("state.json doesn't say which files hold the rows", "") from None
    if any(Path(name).name != name for name in names):
        raise DataError("state.json names a file outside its folder", "")
    return [folder / name for name in names]


def _split(splits: object, choice: str | None) -> str:
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    chosen = choice or (names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names or Path(chosen).name != chosen:
        raise DataError(f"choose a split: '#' and one of {', '.join(names)}", "")
    return chosen


def _object(file: Path) -> Mapping[str, Any]:
    try:
        value = parsed(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, Mapping):
        raise DataError(f"{file.name} is missing or no JSON object", "")
    return value


def _refuse(choice: str | None, why: str) -> None:
    if choice is not None:
        raise DataError(why, "")
