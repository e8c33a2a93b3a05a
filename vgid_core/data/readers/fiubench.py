"""FIUBench (arXiv 2411.03554): full.json, one object a person with one photo and twenty questions, and split.json.

Fields are those that `data_module.py` of SaFoLab-WISC/FIUBench reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vgid_core.data.json_text import NotJson, parse_json
from vgid_core.data.pairs import DataError, EncodedImage, Pair, read_image
from vgid_core.data.readers.reading import Item
from vgid_core.data.readers.tables import records_in, text_in

# The authors use the first 400 people of the file.
PEOPLE = 400
_FORGET = ("forget1", "forget5", "forget10")


def recognises(path: Path) -> bool:
    """Whether the path is full.json, or its folder, with split.json next to it."""
    file = _file(path)
    return file.name == "full.json" and file.is_file() and (file.parent / "split.json").is_file()


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """Yields one pair for each question, about all 400 people or those of the chosen split.

    choice: comma-separated: a split of split.json, or `retain` for everybody in none of its forget splits;
    `paraphrased`, for the other wordings of each question.
    """
    options = choice.split(",") if choice else []
    splits = [option for option in options if option != "paraphrased"]
    if len(splits) > 1:
        raise DataError("takes one split and 'paraphrased' after '#'", "")
    file = _file(path)
    if path.is_dir() and not file.is_file():
        raise DataError(f"holds no {file.name}", "")
    everyone = _people(file)
    people = everyone[:PEOPLE]
    if splits:
        known = {one for person in everyone if isinstance(one := person.get("unique_id"), str | int)}
        people = _of_split(people, splits[0], file.parent / "split.json", known)
    for person in people:
        yield from _pairs(person, file.parent, "paraphrased" in options)


def _file(path: Path) -> Path:
    return path / "full.json" if path.is_dir() else path


def _people(file: Path) -> list[Any]:
    """Reads one JSON list, or one object a line: the authors' code takes both."""
    text = file.read_text(encoding="utf-8-sig")
    try:
        value = parse_json(text)
        people = value if isinstance(value, list) else [value]
    except NotJson:
        try:
            people = [parse_json(line) for line in text.split("\n") if line.strip()]
        except NotJson:
            raise DataError("is neither a JSON list nor a JSON object a line", "") from None
    if not all(isinstance(person, Mapping) for person in people):
        raise DataError("holds something that is no JSON object", "")
    return people


def _of_split(people: list[Any], split: str, file: Path, known: set[str | int]) -> list[Any]:
    try:
        splits = parse_json(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        splits = None
    if not isinstance(splits, Mapping):
        raise DataError("there is no readable split.json beside it", "")
    if not all(isinstance(person.get("unique_id"), str | int) for person in people):
        raise DataError("holds a person whose 'unique_id' is no id, so a split can't be chosen", "")
    if split == "retain":
        forgotten = {one for name in _FORGET if name in splits for one in _ids(splits, name, known)}
        return [person for person in people if person["unique_id"] not in forgotten]
    if split not in splits:
        raise DataError(f"'#{split}' is none of {', '.join(splits)}, retain", "")
    chosen = _ids(splits, split, known)
    return [person for person in people if person["unique_id"] in chosen]


def _ids(splits: Mapping[str, Any], name: str, known: set[str | int]) -> set[str | int]:
    """The ids of a split. Raises DataError for unknown ids: they could be people to forget, written differently."""
    ids = splits[name]
    if not isinstance(ids, list) or not all(isinstance(one, str | int) for one in ids):
        raise DataError(f"split.json's '{name}' is no list of ids", "")
    if unknown := sum(one not in known for one in ids):
        raise DataError(f"split.json's '{name}' has {unknown} of {len(ids)} ids that nobody has", "")
    return set(ids)


def _pairs(person: Mapping[str, Any], folder: Path, paraphrased: bool) -> Iterator[Item]:
    try:
        photo, records = _photo(person, folder), records_in(person.get("qa_list"), ".question")
    except DataError as error:
        yield error
        return
    for record in records:
        column = "paraphrased_question" if paraphrased else "question"
        wordings = record.get(column)
        for wording in wordings if isinstance(wordings, list) else [wordings]:
            try:
                question = text_in({column: wording}, column, "question")
                yield Pair(photo, question, text_in(record, "answer", "answer"))
            except DataError as error:
                yield error


def _photo(person: Mapping[str, Any], folder: Path) -> EncodedImage:
    """The photo at the longest suffix of its path that exists in the data's folder.

    The authors' paths start some folders above the data.
    """
    parts = PurePosixPath(text_in(person, "image_path", "image")).parts
    for start in range(len(parts)):
        try:
            return read_image(str(PurePosixPath(*parts[start:])), folder, ".image")
        except DataError as error:
            if start == len(parts) - 1:  # the bare file name, the shortest suffix
                raise error from None
    raise DataError("no such file", ".image")
