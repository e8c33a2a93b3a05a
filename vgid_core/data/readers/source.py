"""Reads a set from a path, whose format is detected or given as `format:path`."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from vgid_core.data.pairs import DataError, PairSet
from vgid_core.data.readers import clear, dataset, fiubench, folder, jsonl, mllmu
from vgid_core.data.readers.reading import Item, ReadResult, prefixed
from vgid_core.data.readers.tables import columns_of, parquet_files

log = logging.getLogger(__name__)

Reader = Callable[[Path, str | None], Iterator[Item]]


def _without_choice(items: Callable[[Path], Iterator[Item]], path: Path, choice: str | None) -> Iterator[Item]:
    if choice is not None:
        raise DataError("this format has nothing to choose with '#'", "")
    yield from items(path)


READERS: dict[str, Reader] = {
    "jsonl": partial(_without_choice, jsonl.items),
    "folder": partial(_without_choice, folder.items),
    "mllmu": mllmu.items,
    "clear": clear.items,
    "fiubench": fiubench.items,
    "dataset": dataset.items,
}
_PREFIXED = re.compile(r"([a-z][a-z0-9_-]+):")
_FORMATTED = re.compile(rf"({'|'.join(READERS)}):(.*)", re.DOTALL)


def read_set(source: str, name: str | None = None) -> PairSet:
    """Reads the set at `source`: a path, whose format is detected, or `format:path`.

    `#` and a choice after the path selects a part, such as a split, in formats that have parts
    (docs/reference/data.md). name: the set's role, by default the path's stem. Items that aren't image-text pairs are
    left out and logged as counts. Raises DataError naming the place.
    """
    found = read(source, name)
    pairs = found.pair_set()
    for reason, count in found.left_out.items():
        log.warning("%s: left out %d %s", found.name, count, reason)
    return pairs


def read(source: str, name: str | None = None) -> ReadResult:
    """Reads `source` as `read_set` does, item by item. Raises DataError only if nothing can be read at all."""
    if not _is_valid_path(source):
        raise DataError("is not a valid file name", name or "source")
    chosen, path, choice = _split_source(source)
    if path is None:
        raise DataError("names no file or folder; the present folder is '.'", name or "source")
    name = name or path.stem
    if chosen is None and not exists(path) and (unknown := _PREFIXED.match(source)):
        raise DataError(f"knows no format {unknown[1]!r}; there are {', '.join(READERS)}", name)
    try:
        reader = READERS[chosen or _format_of(path, choice)]
        return ReadResult.of(name, reader(path, choice))
    except DataError as error:
        raise prefixed(error, name) from error.__cause__
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", name) from None
    except csv.Error:
        raise DataError("is not CSV", name) from None
    except OSError as error:
        raise DataError(f"can't be read: {(error.strerror or 'unknown reason').lower()}", name) from None


def _split_source(source: str) -> tuple[str | None, Path | None, str | None]:
    """Format, path (None if empty) and choice. A path that exists as written is taken whole, even with ':' or '#'."""
    matched = None if exists(Path(source)) else _FORMATTED.fullmatch(source)
    form, rest = matched.groups() if matched else (None, source)
    choice = None
    if "#" in rest and not exists(Path(rest)):
        rest, _, choice = rest.rpartition("#")
    return form, Path(rest) if rest else None, choice  # Path("") would be the working folder


def _is_valid_path(source: str) -> bool:
    """Whether a file can have this name at all."""
    try:
        return b"\0" not in os.fsencode(source)
    except UnicodeEncodeError:
        return False


def exists(path: Path) -> bool:
    """Whether the path exists. False if that can't be checked (a name that is too long); reading says why."""
    try:
        return path.exists()
    except OSError:
        return False


def _format_of(path: Path, choice: str | None) -> str:
    """Detects the format. Raises DataError if the path doesn't exist or its format is unknown."""
    if not path.exists():
        raise DataError("no such file or folder", "")
    for name, recognises in (
        ("jsonl", jsonl.recognises),
        ("dataset", dataset.recognises),
        ("fiubench", fiubench.recognises),
        ("folder", folder.recognises),
    ):
        if recognises(path):
            return name
    if form := _format_of_tables(path, choice):
        return form
    raise DataError(f"is in no format that could be recognised; name it: one of {', '.join(READERS)}, then ':'", "")


def _format_of_tables(path: Path, choice: str | None) -> str | None:
    """Detects the format by the columns of the Parquet files in `path`, or in a folder inside.

    A benchmark is recognised even if none of its folders is chosen: its reader then says what to choose.
    """
    folders = (choice or "").split(",")
    found = parquet_files(path) or [file for folder in folders for file in parquet_files(path / folder)]
    found = found or dataset.tables(path)
    tables = found or sorted(path.glob("*/*.parquet"))
    columns = columns_of(tables[0]) if tables else []
    if mllmu.recognises_columns(columns):
        return "mllmu"
    if clear.recognises_columns(columns):
        return "clear"
    return "dataset" if found and set(dataset.COLUMNS) <= set(columns) else None
