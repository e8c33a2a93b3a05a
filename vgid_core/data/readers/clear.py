"""CLEAR (arXiv 2410.18057): photos of fictitious people with captions and names, and questions without photos.

Columns are those of the dataset card (huggingface.co/datasets/therem/CLEAR). Questions follow `mm/dataset.py` and
`config/mm/eval.yaml` of somvy/multimodal_unlearning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vgid_core.data.pairs import DataError, Pair
from vgid_core.data.readers.reading import Item, LeftOut
from vgid_core.data.readers.tables import image_in, parquet_files, parquet_rows, text_in

CAPTION_QUESTION = "What does this picture show?"
NAME_QUESTION = "What is the name of the person in this picture?"

_COLUMNS = ("image", "caption", "name", "question", "answer")


def recognises_columns(columns: list[str]) -> bool:
    """Whether the table has photos with captions."""
    return "image" in columns and "caption" in columns


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """Yields one pair for each photo, about its caption or the person's name; a row's own question comes first.

    choice: comma-separated: a folder inside `path`; `name`, to ask for the name instead of the caption.
    """
    words = choice.split(",") if choice else []
    ask_name = "name" in words
    configs = [word for word in words if word != "name"]
    if len(configs) > 1 or any(Path(word).name != word for word in configs):
        raise DataError("takes one folder inside and 'name' after '#'", "")
    files = parquet_files(path.joinpath(*configs))
    if not files:
        raise DataError("no such folder with Parquet files: choose one inside with '#', such as #forget05", "")
    for row in parquet_rows(files, _COLUMNS):
        try:
            yield _item(row, ask_name)
        except DataError as error:
            yield error


def _item(row: Mapping[str, Any], ask_name: bool) -> Item:
    image = image_in(row.get("image"))
    if image is None:
        return LeftOut("questions without an image")
    if row.get("answer") is not None:
        question = NAME_QUESTION if row.get("question") is None else text_in(row, "question", "question")
        return Pair(image, question, text_in(row, "answer", "answer"))
    if ask_name:
        return Pair(image, NAME_QUESTION, text_in(row, "name", "answer"))
    return Pair(image, CAPTION_QUESTION, text_in(row, "caption", "answer"))
