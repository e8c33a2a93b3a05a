"""A folder of images with metadata.csv or metadata.jsonl, as 🤗 datasets' ImageFolder: columns question and answer."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from vgid_core.data.json_text import NotJson, parse_json
from vgid_core.data.pairs import DataError, EncodedImage, parse_record
from vgid_core.data.readers.reading import Item, LeftOut

_METADATA = ("metadata.csv", "metadata.jsonl")
IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


def recognises(path: Path) -> bool:
    """Whether a folder holds metadata; also true of metadata.csv itself, so that `items` names the mistake."""
    return path.name == "metadata.csv" or any((path / name).is_file() for name in _METADATA)


def items(path: Path) -> Iterator[Item]:
    """Yields one pair for each row: `file_name` (relative to the folder), `question`, `answer`; others are ignored."""
    if path.is_file():
        raise DataError("is a file: name the folder that holds it", "")
    found = [path / name for name in _METADATA if (path / name).is_file()]
    if len(found) != 1:
        raise DataError(f"needs one of {' or '.join(_METADATA)}, and holds {'both' if found else 'neither'}", "")
    images: dict[str, EncodedImage] = {}
    for row in _rows(found[0]):
        if isinstance(row, DataError):
            yield row
            continue
        try:
            yield parse_record({**row, "image": row.get("file_name")}, "", path, images)
        except DataError as error:
            yield error
    listed = {(path / reference).resolve() for reference in images}
    files = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    unlisted = sum(file.resolve() not in listed for file in files)
    if unlisted:
        yield LeftOut("images that no row of the metadata names", unlisted)


def _rows(file: Path) -> Iterator[Mapping[str, object] | DataError]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.DictReader(stream)
        return
    for line in file.read_text(encoding="utf-8-sig").split("\n"):
        if line.strip():
            try:
                row = parse_json(line)
            except NotJson as error:
                yield DataError(str(error), "")
                continue
            yield row if isinstance(row, Mapping) else DataError("is not a JSON object", "")
