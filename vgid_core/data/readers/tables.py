"""Rows of Parquet and Arrow files. Images stay the encoded bytes that they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgid_core.data.pairs import DataError, EncodedImage, require_encodable

if TYPE_CHECKING:
    from types import ModuleType

# Rows held as Python objects at a time: a photo takes up to a few megabytes.
_BATCH_ROWS = 32


def parquet_files(path: Path) -> list[Path]:
    """The file itself, or a folder's *.parquet sorted by name; empty if there are none."""
    if path.is_dir():
        return sorted(path.glob("*.parquet"))
    return [path] if path.suffix == ".parquet" and path.is_file() else []


def columns_of(file: Path) -> list[str]:
    """Column names of a Parquet file. Raises DataError."""
    names: list[str] = _opened(file).schema_arrow.names
    return names


def parquet_rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the files' rows with those of `columns` that each file has. Raises DataError for a damaged file."""
    for file in files:
        parquet = _opened(file)
        wanted = [name for name in columns if name in parquet.schema_arrow.names]
        try:
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()
        except (_arrow().ArrowException, OSError):
            raise DataError(f"{file.name} is damaged", "") from None


def arrow_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of an Arrow stream as 🤗 datasets writes it. Raises DataError for a damaged file."""
    arrow = _arrow()
    try:
        with arrow.memory_map(str(file)) as mapped, arrow.ipc.open_stream(mapped) as stream:
            for batch in stream:
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    yield from batch.slice(start, _BATCH_ROWS).to_pylist()
    except (arrow.ArrowException, OSError):
        raise DataError(f"{file.name} is no readable Arrow stream", "") from None


def image_in(value: object) -> EncodedImage | None:
    """The image in a cell of 🤗 datasets' type Image, {"bytes", "path"}; None for an empty cell.

    Raises DataError for a cell that only names a file, whose folder the table doesn't know.
    """
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(data, bytes) and data:
        return EncodedImage(data)
    if isinstance(value, Mapping) and value.get("path"):
        raise DataError("names a file instead of holding the image's bytes", ".image")
    if data is None or data == b"":
        return None
    raise DataError("is no image", ".image")


def text_in(row: Mapping[str, Any], column: str, part: str) -> str:
    """The text in `column`. Raises DataError, at the pair's `part`, if it is missing or isn't valid Unicode."""
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(f"there is no text in '{column}'", f".{part}")
    require_encodable(value, f".{part}")
    return value


def records_in(value: object, part: str = "") -> list[Mapping[str, Any]]:
    """The cell's list of objects; empty for an empty cell. Raises DataError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(record, Mapping) for record in value):
        raise DataError("is no list of objects", part)
    return value


def _opened(file: Path) -> Any:
    arrow = _arrow()
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError):
        raise DataError(f"{file.name} is no readable Parquet file", "") from None


def _arrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError:
        raise DataError("Parquet and Arrow files need the extra 'data': pip install '.[data]'", "") from None
    module: ModuleType = pyarrow
    return module
