"""JSONL beside image files, as `PairSet.write_jsonl` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vgid_core.data.pairs import DataError, EncodedImage, parse_line
from vgid_core.data.readers.reading import Item


def recognises(path: Path) -> bool:
    """Whether it is a file named *.jsonl."""
    return path.suffix == ".jsonl" and path.is_file()


def items(path: Path) -> Iterator[Item]:
    """Yields one pair for each line: {"image": "<path beside the file>", "question": ..., "answer": ...}."""
    images: dict[str, EncodedImage] = {}
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if line.strip():
            try:
                yield parse_line(line, "", path.parent, images)
            except DataError as error:
                yield error
