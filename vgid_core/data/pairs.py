"""Forget, retain and evaluation sets: image-question-answer pairs, in memory or as JSONL beside image files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vgid_core.data.json_text import NotJson, parse_json
from vgid_core.data.sampling import even_sample

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow has some forty decoders more. Sets don't need them, and hardly anybody maintains them: each is a risk.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# The sets that a run knows by their roles. No probe can have one of these names.
RESERVED_NAMES = frozenset(
    {
        "forget",
        "retain",
        "registered_retain",
        "utility",
        "unseen_faces",
        "unlabelled",
        "unseen",
        "neighbours",
        "replay_sets",
    }
    | {"together"}
)
# A PNG without any of these has no orientation. Asking Pillow for it would decode the whole picture.
_PNG_ORIENTATION = (b"eXIf", b"exif", b"xmp")


class DataError(ValueError):
    """A set that can't be used. The message holds no personal data.

    field: the place, such as 'forget[3].image'. reason: the message without the place. request: as in `UnlearnError`.
    """

    request: str | None = None

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.reason = message
        self.field = field


@dataclass(frozen=True)
class EncodedImage:
    """An image as encoded bytes in one of IMAGE_FORMATS. Images with equal bytes are equal."""

    data: bytes = field(repr=False)

    @classmethod
    def of(cls, picture: Image) -> EncodedImage:
        """Encodes `picture` as PNG, which is lossless."""
        stream = io.BytesIO()
        picture.save(stream, format="PNG", compress_level=1)  # more takes three times as long for a few percent
        return cls(stream.getvalue())

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoded bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the decoded picture, in pixels, orientation applied.

        Reads the header alone where that suffices, so a file that is damaged further on passes; `decode` finds that.
        Raises DataError for bytes that are no image.
        """
        from PIL import ExifTags

        with self._opened() as picture:
            if picture.format == "TIFF":  # some versions of Pillow apply its orientation on opening, others don't
                return self.decode().size
            width, height = picture.size
            may_be_rotated = picture.format != "PNG" or any(mark in self.data for mark in _PNG_ORIENTATION)
            is_rotated = may_be_rotated and picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (height, width) if is_rotated else (width, height)

    @property
    def format(self) -> str:
        """Its format in lower case, such as png, jpeg or webp. Raises DataError for bytes that are no image."""
        with self._opened() as picture:
            return str(picture.format).lower()

    def decode(self) -> Image:
        """The picture in RGB with its EXIF orientation applied. Raises DataError if it can't be decoded."""
        from PIL import ImageOps

        with self._opened() as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")

    def decode_reduced(self, side: int) -> Image:
        """The picture as `decode` gives it, or a smaller one whose shorter side has `side` pixels or more.

        A JPEG is decoded at down to an eighth of its size, in grey, which takes a fraction of the time. Raises
        DataError as `decode` does.
        """
        from PIL import ImageOps

        with self._opened() as picture:
            picture.draft("L", (side, side))  # does nothing to other formats
            return ImageOps.exif_transpose(picture).convert("RGB")

    @contextmanager
    def _opened(self) -> Iterator[Image]:
        """The file opened by Pillow. Any fault of an image or its metadata becomes a DataError."""
        from PIL import Image as pil

        try:
            with pil.open(io.BytesIO(self.data), formats=IMAGE_FORMATS) as picture:
                yield picture
        except MemoryError:  # can be the machine's fault, not the file's
            raise
        except Exception as error:  # decoders raise any type of exception on damaged or hostile bytes
            raise DataError("not a readable image (PNG, JPEG, WebP, BMP, TIFF or GIF)", "image") from error


@dataclass(frozen=True)
class Pair:
    """One example (I, q, y): an image, a question about it, and the answer that the model gives before unlearning.

    person: whom it is about, as answers name them. It groups a person's pairs, and audits ask by it. fact: the part of
    the answer that an attacker wants back. Neither changes what is trained, so pairs compare without them.
    """

    image: EncodedImage
    question: str = field(repr=False)
    answer: str = field(repr=False)
    person: str | None = field(default=None, repr=False, compare=False)
    fact: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class PairSet:
    """A named sequence of pairs. name: the set's role (forget, retain, utility), or a probe's own name."""

    name: str
    pairs: tuple[Pair, ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, pairs: Iterable[Pair]) -> PairSet:
        """Validates the pairs. Raises DataError for an empty set, an empty text, or one that isn't valid Unicode."""
        items = tuple(pairs)
        if not items:
            raise DataError("holds no pairs", name)
        for index, pair in enumerate(items):
            for part in ("question", "answer"):
                text, where = getattr(pair, part), f"{name}[{index}].{part}"
                if not text.strip():
                    raise DataError("is empty", where)
                require_encodable(text, where)
            if pair.fact is not None and (not pair.fact.strip() or pair.fact not in pair.answer):
                raise DataError("isn't part of the answer", f"{name}[{index}].fact")
        return cls(name, items)

    @classmethod
    def from_jsonl(cls, path: str | Path, name: str | None = None) -> PairSet:
        """Reads JSONL, one object a line: {"image": "<path beside the file>", "question": ..., "answer": ...}.

        A line may have "person" and "fact" (see `Pair`). An image that several lines name is held once. Raises
        DataError naming the line, or the set if the file isn't UTF-8, and FileNotFoundError if it doesn't exist.
        """
        source = Path(path)
        name = name or source.stem
        images: dict[str, EncodedImage] = {}
        pairs = []
        try:
            lines = source.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise DataError("is not UTF-8 text", name) from None
        for number, line in enumerate(lines):
            if line.strip():
                pairs.append(parse_line(line, f"{name}[{number}]", source.parent, images))
        return cls.of(name, pairs)

    def write_jsonl(self, path: str | Path) -> None:
        """Writes the set as `from_jsonl` reads it. Images go to `images/` beside the file, named by digest."""
        target = Path(path)
        folder = target.parent / "images"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for pair in self.pairs:
            file = folder / pair.image.digest[:32]
            if not file.exists():
                file.write_bytes(pair.image.data)
            record = {"image": f"images/{file.name}", "question": pair.question, "answer": pair.answer}
            record |= {key: value for key, value in (("person", pair.person), ("fact", pair.fact)) if value is not None}
            lines.append(json.dumps(record, ensure_ascii=False))
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, over the JSON list of (image digest, question, answer): names the data without showing it.

        A pair with a person or a fact adds both.
        """
        rows = [
            [p.image.digest, p.question, p.answer, *((p.person, p.fact) if p.person or p.fact else ())]
            for p in self.pairs
        ]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()

    def without_images_of(self, other: PairSet) -> PairSet:
        """This set without the pairs whose image occurs in `other`, byte for byte. Raises DataError if none is left."""
        taken = {pair.image.digest for pair in other.pairs}
        left = tuple(p for p in self.pairs if p.image.digest not in taken)
        if not left:
            raise DataError("shows only images that are to be forgotten", self.name)
        return PairSet(self.name, left)

    def sample(self, limit: int) -> PairSet:
        """At most `limit` pairs, by `even_sample`: the same ones every time."""
        return self if len(self) <= limit else PairSet(self.name, tuple(even_sample(self.pairs, limit)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)


def parse_line(line: str, where: str, folder: Path, images: dict[str, EncodedImage]) -> Pair:
    """Parses one line of a set's JSONL. Raises DataError.

    where: the line's place, for errors. images: those read so far, by reference; a new one is added.
    """
    try:
        record = parse_json(line)
    except NotJson as error:
        raise DataError(str(error), where) from None
    if not isinstance(record, Mapping):
        raise DataError("is not a JSON object", where)
    return parse_record(record, where, folder, images)


def parse_record(record: Mapping[str, object], where: str, folder: Path, images: dict[str, EncodedImage]) -> Pair:
    """Makes the pair of a record with image (a path relative to `folder`), question, answer, and maybe person and fact.

    Arguments are as in `parse_line`. Raises DataError for a missing field or file, and for a file outside the folder.
    """
    reference, question, answer = (_text(record, key, where) for key in ("image", "question", "answer"))
    person, fact = (None if record.get(key) is None else _text(record, key, where) for key in ("person", "fact"))
    if fact is not None and (not fact.strip() or fact not in answer):
        raise DataError("isn't part of the answer", f"{where}.fact")
    if reference not in images:
        images[reference] = read_image(reference, folder, f"{where}.image")
    return Pair(images[reference], question, answer, person, fact)


def read_image(reference: str, folder: Path, where: str) -> EncodedImage:
    """Reads the file `reference` of `folder`. Raises DataError, at `where`, if it is missing or outside the folder."""
    try:
        file = Path(os.path.realpath(folder / reference))  # Path.resolve raises for a link to itself
        inside = file.is_relative_to(folder.resolve())
        data = file.read_bytes() if inside and file.is_file() else None
    except OSError as error:  # a name that is too long, missing permission, ...
        raise DataError(f"can't be read: {(error.strerror or 'unknown reason').lower()}", where) from None
    except ValueError:  # a NUL character
        raise DataError("is not a valid file name", where) from None
    if data is None:
        raise DataError("no such file" if inside else "lies outside the set's folder", where)
    return EncodedImage(data)


def _text(record: Mapping[str, object], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise DataError("is missing or not a string", f"{where}.{key}")
    require_encodable(value, f"{where}.{key}")
    return value


def require_encodable(text: str, where: str) -> None:
    """Raises DataError, at `where`, for a text with a lone surrogate: neither tokenizers nor UTF-8 files take it.

    JSON can hold one as "\\ud800", and Python decodes command-line arguments that aren't UTF-8 into such.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("holds half a character (a lone surrogate)", where) from None
