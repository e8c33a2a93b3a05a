"""MLLMU-Bench (arXiv 2410.22108): one row a person, with one or more photos and questions of several tasks.

Columns are those of the dataset card (huggingface.co/datasets/MLLMMU/MLLMU-Bench), and of `eval.py` and
`data_process/data_preprocess.py` in franciscoliu/MLLMU-Bench.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vgid_core.data.json_text import NotJson, parse_json
from vgid_core.data.pairs import DataError, EncodedImage, Pair
from vgid_core.data.readers.reading import Item, LeftOut
from vgid_core.data.readers.tables import columns_of, image_in, parquet_files, parquet_rows, records_in, text_in

Task = Literal["generation", "mask", "classification"]

_COLUMNS: dict[Task, str] = {
    "generation": "Generation_Task",
    "mask": "Mask_Task",
    "classification": "Classification_Task",
}
_TRAINING = "metadata"
_WITH_IMAGE = "Image_Textual"
_FILL_IN = "\nSay only what belongs in the blank."
_PICK = "\nSay only the letter of the right answer."


def recognises_columns(columns: list[str]) -> bool:
    """Whether the table is one of the benchmark's, or of its training splits."""
    return _COLUMNS["generation"] in columns or (_TRAINING in columns and "image" in columns)


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """Yields the pairs of one task, by default `generation`; of a training split, every question.

    choice: comma-separated: a task; a folder inside `path`; people=<folder>, for the people of that folder alone, as
    the benchmark combines Test_Set with a forget set.
    """
    task, config, people = _parse_choice(path, choice)
    files = parquet_files(path / config if config else path)
    if not files:
        raise DataError("holds no Parquet file: choose a folder inside with '#', such as #forget_5", "")
    known = None if people is None else _people(_sibling(path, config, people))
    training = _TRAINING in columns_of(files[0])
    if training and task is not None:
        raise DataError(f"a training split has no tasks, so '#{task}' can't be chosen", "")
    for row in parquet_rows(files, ["image", "images", "ID", _TRAINING, "question", *_COLUMNS.values()]):
        if known is not None and not (isinstance(row.get("ID"), str | int) and row["ID"] in known):
            continue
        try:
            yield from _training_pairs(row) if training else _task_pairs(row, task or "generation")
        except DataError as error:
            yield error


def _parse_choice(path: Path, choice: str | None) -> tuple[Task | None, str | None, str | None]:
    """Task, folder inside and people's folder."""
    task: Task | None = None
    config = people = None
    for word in (choice or "").split(",") if choice else []:
        if word in _COLUMNS:
            task = word
        elif word.startswith("people="):
            people = word.removeprefix("people=")
        elif word == Path(word).name and (path / word).is_dir():
            config = word
        else:
            raise DataError(f"'#{word}' is neither a task ({', '.join(_COLUMNS)}) nor a folder inside", "")
    return task, config, people


def _sibling(path: Path, config: str | None, people: str) -> Path:
    root = path if config else path.parent if path.is_dir() else path.parent.parent
    return root / people


def _people(folder: Path) -> set[str]:
    """Ids of the people of a folder's tables."""
    files = parquet_files(folder)
    if not files:
        raise DataError(f"people={folder.name}: there is no such folder with Parquet files", "")
    return {row["ID"] for row in parquet_rows(files, ["ID"]) if isinstance(row.get("ID"), str | int)}


def _task_pairs(row: Mapping[str, Any], task: Task) -> Iterator[Item]:
    """Yields the task's questions on each photo of a row; counts all else as left out."""
    photos = yield from _photos(row)
    for other, column in _COLUMNS.items():
        if other != task:
            count = sum(1 for _ in _questions(row, other))
            if count:
                yield LeftOut(f"questions of {column}", count)
    if row.get("question"):
        yield LeftOut("questions for the biography")
    for with_image, record in _questions(row, task):
        if not with_image:
            yield LeftOut(f"questions of {_COLUMNS[task]} that are asked without an image")
            continue
        for photo in photos:
            yield _pair(photo, record, task)


def _questions(row: Mapping[str, Any], task: Task) -> Iterator[tuple[bool, Mapping[str, Any]]]:
    """The questions of a task, each with whether it is asked with an image."""
    cell = row.get(_COLUMNS[task])
    if task == "classification":
        for kind in ("Image_Textual_Questions", "Pure_Text_Questions"):
            for record in records_in(cell.get(kind) if isinstance(cell, Mapping) else cell):
                yield kind.startswith(_WITH_IMAGE), record
    else:
        for record in records_in(cell):
            yield record.get("Type") == _WITH_IMAGE, record


def _pair(photo: EncodedImage, record: Mapping[str, Any], task: Task) -> Item:
    try:
        question = text_in(record, "Question", "question")
        answer = text_in(record, "Correct_Answer" if task == "classification" else "Ground_Truth", "answer")
        if task == "mask":
            question += _FILL_IN
        if task == "classification":
            question = "\n".join([question, *_options(record)]) + _PICK
    except DataError as error:
        return error
    return Pair(photo, question, answer)


def _options(record: Mapping[str, Any]) -> list[str]:
    options = record.get("Options") or {}
    if not isinstance(options, Mapping):
        raise DataError("has options that aren't named by letters", ".question")
    return [f"{letter}: {text}" for letter, text in options.items() if text is not None]


def _training_pairs(row: Mapping[str, Any]) -> Iterator[Item]:
    """Yields the pairs of a row of ft_Data or a training split, whose `metadata` is JSON of questions and answers."""
    try:
        records = records_in(parse_json(text_in(row, _TRAINING, "question")))
    except (DataError, NotJson):
        yield DataError(f"'{_TRAINING}' is no JSON list of objects", "")
        return
    photos = yield from _photos(row)
    for record in records:
        question, answer = record.get("Question"), record.get("Answer")
        if not question or not answer:  # the authors' code skips these, too
            yield LeftOut("questions without text, or without an answer")
            continue
        for photo in photos:
            yield _pair(photo, {"Question": question, "Ground_Truth": answer}, "generation")


def _photos(row: Mapping[str, Any]) -> Generator[Item, None, list[EncodedImage]]:
    """Returns the row's photos; yields what can't be used."""
    images = row.get("images")
    cells = images if isinstance(images, list) and images else [row.get("image")]
    photos: list[EncodedImage] = []
    for cell in cells:
        try:
            photo = image_in(cell)
        except DataError as error:
            yield error
            continue
        if photo is None:
            yield LeftOut("people without an image")
        else:
            photos.append(photo)
    return photos
