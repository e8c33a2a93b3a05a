"""FIUBench (arXiv 2411.03554): full.json, a person an object with one photo and twenty questions, beside split.json.

The fields are those that `data_module.py` of SaFoLab-WISC/FIUBench reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vgid_core.data.json_text import NotJson, parsed
from vgid_core.data.pairs import DataError, EncodedImage, Pair, image_at
from vgid_core.data.readers.reading import Item
from vgid_core.data.readers.tables import records_in, text_in

# The authors use the first 400 people of their file.
PEOPLE = 400
_FORGET = ("forget1", "forget5", "forget10")


def recognises(path: Path) -> bool:
    """The file full.json, or a folder that holds it beside split.json."""
    file = _file(path)
    return file.name == "full.json" and file.is_file() and (file.parent / "split.json").is_file()


def items(path: Path, choice: str | None = None) -> Iterator[Item]:
    """A pair a question, of all 400 people or of those that `choice` names.

    `choice` is a list with commas: a split of split.json, or `retain` for who is in none of its forget splits;
    `paraphrased`, for the other wordings of each question.
    """
    words = choice.split(",") if choice else []
    splits = [word for word in words if word != "paraphrased"]
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
        yield from _asked(person, file.parent, "paraphrased" in words)


def _file(path: Path) -> Path:
    return path / "full.json" if path.is_dir() else path


def _people(file: Path) -> list[Any]:
    """The file as one JSON list, or as an object a line: the authors' code takes both."""
    text = file.read_text(encoding="utf-8-sig")
    try:
        value = parsed(text)
        people = value if isinstance(value, list) else [value]
    except NotJson:
        try:
            people = [parsed(line) for line in text.split("\n") if line.strip()]
        except NotJson:
            raise DataError("is neither a JSON list nor a JSON object a line", "") from None
    if not all(isinstance(person, Mapping) for person in people):
        raise DataError("holds something that is no JSON object", "")
    return people


def _of_split(people: list[Any], split: str, file: Path, known: set[str | int]) -> list[Any]:
    try:
        splits = parsed(file.read_text(encoding="utf-8-sig"))
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
    """Whom a split names. Somebody whom nobody is could be one to be forgotten, written in another way."""
    ids = splits[name]
    if not isinstance(ids, list) or not all(isinstance(one, str | int) for one in ids):
        raise DataError(f"split.json's '{name}' is no list of ids", "")
    if strange := sum(one not in known for one in ids):
        raise DataError(f"split.json's '{name}' has {strange} of {len(ids)} ids that nobody has", "")
    return set(ids)


def _asked(person: Mapping[str, Any], folder: Path, paraphrased: bool) -> Iterator[Item]:
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
    """The photo by the longest ending of its path that lies in the data's folder.

    Paths start where the authors run their code, a folder or more above the data.
    """
    parts = PurePosixPath(text_in(person, "image_path", "image")).parts
    for start in range(len(parts)):
        try:
            return image_at(str(PurePosixPath(*parts[start:])), folder, ".image")
        except DataError as error:
            if start == len(parts) - 1:  # the file's name alone: nothing shorter is left
                raise error from None
    raise DataError("no such file", ".image")
