"""Builds the multipart body of a forget request: one JSON part, and a part for each distinct image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from vgid_client.errors import DataFileError

# A part of a multipart body in httpx's form: the part's name, and (file name, content, media type).
Part = tuple[str, tuple[str | None, bytes, str]]
_OPTIONAL = ("person", "fact")  # of a pair


@dataclass(frozen=True)
class Pair:
    """An encoded image (PNG, JPEG, WebP ...), a question about it, and the answer that the model gives today.

    person: whom it is about, as answers name them. fact: the part of the answer that must not come back.
    """

    image: bytes = field(repr=False)
    question: str = field(repr=False)
    answer: str = field(repr=False)
    person: str | None = field(default=None, repr=False)
    fact: str | None = field(default=None, repr=False)


def read_jsonl(path: str | Path) -> list[Pair]:
    """Reads pairs from a file with one `{"image": "<path>", "question": ..., "answer": ...}` per line.

    A line may have "person" and "fact", too. Image paths are relative to the file's folder. Raises DataFileError, which
    names the line.
    """
    source = Path(path)
    images: dict[str, bytes] = {}
    pairs = []
    for number, line in enumerate(_read_text(source).split("\n"), start=1):
        if line.strip():
            pairs.append(_parse_line(line, f"{source.name}, line {number}", source.parent, images))
    if not pairs:
        raise DataFileError(f"{source.name} holds no pairs")
    return pairs


def request_parts(
    model: str,
    forget: Iterable[Pair],
    retain: Iterable[Pair] | None,
    probes: Mapping[str, Iterable[Pair]] | None,
    fields: Mapping[str, Any],
) -> list[Part]:
    """A request as the parts of a multipart body. fields: those that are None aren't sent."""
    request = {"model": model} | {name: value for name, value in fields.items() if value is not None}
    sets = {"forget": forget} if retain is None else {"forget": forget, "retain": retain}
    return build_multipart(request, sets, probes or {})


def build_multipart(
    request: Mapping[str, Any], sets: Mapping[str, Iterable[Pair]], probes: Mapping[str, Iterable[Pair]]
) -> list[Part]:
    """Returns the body's parts: `request` with `sets` and `probes` added, then one part per distinct image."""
    images: dict[str, bytes] = {}
    body: dict[str, Any] = {**request, **_refer_to_images(sets, images)}
    # Probes have a field of their own, so that a probe named "forget" can't replace the forget set.
    if probes:
        body["probes"] = _refer_to_images(probes, images)
    document = to_json(body, fallback=dict)
    parts: list[Part] = [("request", (None, document, "application/json"))]
    parts += [(name, (name, data, "application/octet-stream")) for name, data in images.items()]
    return parts


def _refer_to_images(sets: Mapping[str, Iterable[Pair]], images: dict[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    """The sets in the form of the JSON part, which refers to images by name. Adds the images to `images`."""
    return {name: [_refer_to_image(pair, images) for pair in pairs] for name, pairs in sets.items()}


def _refer_to_image(pair: Pair, images: dict[str, bytes]) -> dict[str, Any]:
    name = hashlib.sha256(pair.image).hexdigest()[:32]
    images[name] = pair.image
    record = {"image": {"file": name}, "question": pair.question, "answer": pair.answer}
    return record | {key: value for key in _OPTIONAL if (value := getattr(pair, key)) is not None}


def _read_text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{source.name}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError:
        raise DataFileError(f"{source.name} is not UTF-8 text") from None


def _parse_line(line: str, where: str, folder: Path, images: dict[str, bytes]) -> Pair:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        raise DataFileError(f"{where} is not JSON") from None
    if not isinstance(record, dict):
        raise DataFileError(f"{where} is not a JSON object")
    for key in ("image", "question", "answer"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise DataFileError(f"{where}: '{key}' is missing or empty")
    for key in _OPTIONAL:
        if not isinstance(record.get(key), str | None):
            raise DataFileError(f"{where}: '{key}' is not a string")
    reference = record["image"]
    if reference not in images:
        try:
            images[reference] = (folder / reference).read_bytes()
        except OSError as error:
            raise DataFileError(f"{where}: image: {(error.strerror or 'cannot be read').lower()}") from None
    return Pair(images[reference], record["question"], record["answer"], *(record.get(key) for key in _OPTIONAL))
