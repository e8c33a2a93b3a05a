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

from vgid_core.data.json_text import NotJson, parsed
from vgid_core.data.sampling import spread_over

if TYPE_CHECKING:
    from PIL.Image import Image

# What photographs come in. Pillow knows some forty formats more: sets have no use for them, and few people look after
# their decoders.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Without one of these a PNG says nothing of its orientation, and to ask Pillow for it decodes the whole picture.
_PNG_ORIENTATION = (b"eXIf", b"exif", b"xmp")


class DataError(ValueError):
    """A set that can't be used. `field` names the place, e.g. 'forget[3].image'; the text holds no personal data.

    reason: the text without the place.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.reason = message
        self.field = field


@dataclass(frozen=True)
class EncodedImage:
    """An image as its encoded bytes, in one of IMAGE_FORMATS; equal bytes are one image."""

    data: bytes = field(repr=False)

    @classmethod
    def of(cls, picture: Image) -> EncodedImage:
        """`picture` as PNG, which keeps every pixel."""
        stream = io.BytesIO()
        picture.save(stream, format="PNG")
        return cls(stream.getvalue())

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoded bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of what `decode` gives, from the header where it tells. Raises DataError for no image.

        A header can be whole where the rest is damaged: only `decode` finds that.
        """
        from PIL import ExifTags

        with self._opened() as picture:
            if picture.format == "TIFF":  # some versions of Pillow turn its size while they open it
                return self.decode().size
            width, height = picture.size
            turned = picture.format != "PNG" or any(mark in self.data for mark in _PNG_ORIENTATION)
            lies_down = turned and picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (height, width) if lies_down else (width, height)

    @property
    def format(self) -> str:
        """What it is encoded in, as file names end: png, jpeg, webp. Raises DataError for no image."""
        with self._opened() as picture:
            return str(picture.format).lower()

    def decode(self) -> Image:
        """The picture as RGB, its EXIF orientation applied. Raises DataError when it can't be decoded."""
        from PIL import ImageOps

        with self._opened() as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")

    @contextmanager
    def _opened(self) -> Iterator[Image]:
        """Raises DataError for what goes wrong where an image, or what its file says of it, is damaged."""
        from PIL import Image as pil

        try:
            with pil.open(io.BytesIO(self.data), formats=IMAGE_FORMATS) as picture:
                yield picture
        except MemoryError:  # may be this machine's fault
            raise
        except Exception as error:  # decoders meet hostile bytes with any exception there is
            raise DataError("not a readable image (PNG, JPEG, WebP, BMP, TIFF or GIF)", "image") from error


@dataclass(frozen=True)
class Pair:
    """One item (I, q, y): an image, a question about it and the answer the model gives today."""

    image: EncodedImage
    question: str = field(repr=False)
    answer: str = field(repr=False)


@dataclass(frozen=True)
class PairSet:
    """A named list of pairs. `name` is its role (forget, retain, utility, or a probe's own name)."""

    name: str
    pairs: tuple[Pair, ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, pairs: Iterable[Pair]) -> PairSet:
        """A set from any iterable. Raises DataError for an empty set, and for an empty or broken text."""
        items = tuple(pairs)
        if not items:
            raise DataError("holds no pairs", name)
        for index, pair in enumerate(items):
            for part in ("question", "answer"):
                text, where = getattr(pair, part), f"{name}[{index}].{part}"
                if not text.strip():
                    raise DataError("is empty", where)
                require_whole(text, where)
        return cls(name, items)

    @classmethod
    def from_jsonl(cls, path: str | Path, name: str | None = None) -> PairSet:
        """Reads one object a line: {"image": "<path beside the file>", "question": ..., "answer": ...}.

        Images named twice are held once. Raises DataError naming the line, or the set for a file that isn't UTF-8;
        FileNotFoundError where there is none.
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
        """Writes the set as `from_jsonl` reads it; images go to a folder `images/` beside the file, named by digest."""
        target = Path(path)
        folder = target.parent / "images"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for pair in self.pairs:
            file = folder / pair.image.digest[:32]
            if not file.exists():
                file.write_bytes(pair.image.data)
            record = {"image": f"images/{file.name}", "question": pair.question, "answer": pair.answer}
            lines.append(json.dumps(record, ensure_ascii=False))
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @cached_property
    def digest(self) -> str:
        """sha256 over the canonical JSON of (image digest, question, answer), in order: names the data without it."""
        rows = [[p.image.digest, p.question, p.answer] for p in self.pairs]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()

    def without_images_of(self, other: PairSet) -> PairSet:
        """This set less the pairs whose exact image bytes occur in `other`. Raises DataError when nothing is left."""
        taken = {pair.image.digest for pair in other.pairs}
        left = tuple(p for p in self.pairs if p.image.digest not in taken)
        if not left:
            raise DataError("shows only images that are to be forgotten", self.name)
        return PairSet(self.name, left)

    def sample(self, limit: int) -> PairSet:
        """At most `limit` pairs: `spread.spread_over` the set, the same ones every time."""
        return self if len(self) <= limit else PairSet(self.name, tuple(spread_over(self.pairs, limit)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)


def parse_line(line: str, where: str, folder: Path, images: dict[str, EncodedImage]) -> Pair:
    """One line of a set's JSONL. `images` holds what was read before; `where` is the line's place in errors.

    Raises DataError.
    """
    try:
        record = parsed(line)
    except NotJson as error:
        raise DataError(str(error), where) from None
    if not isinstance(record, Mapping):
        raise DataError("is not a JSON object", where)
    return pair_of(record, where, folder, images)


def pair_of(record: Mapping[str, object], where: str, folder: Path, images: dict[str, EncodedImage]) -> Pair:
    """The pair that `record` describes: a file of `folder` by its relative name, question, answer.

    Raises DataError for what is missing, and for a file outside the folder.
    """
    reference, question, answer = (_text(record, key, where) for key in ("image", "question", "answer"))
    if reference not in images:
        images[reference] = image_at(reference, folder, f"{where}.image")
    return Pair(images[reference], question, answer)


def image_at(reference: str, folder: Path, where: str) -> EncodedImage:
    """The image in the file of `folder` that `reference` names. Raises DataError, at `where`, if there is none."""
    try:
        file = Path(os.path.realpath(folder / reference))  # Path.resolve raises where a link leads to itself
        inside = file.is_relative_to(folder.resolve())
        data = file.read_bytes() if inside and file.is_file() else None
    except OSError as error:  # a name longer than names may be, no right to read ...
        raise DataError(f"can't be read: {(error.strerror or 'unknown reason').lower()}", where) from None
    except ValueError:  # NUL
        raise DataError("is no name that a file can have", where) from None
    if data is None:
        raise DataError("no such file" if inside else "lies outside the set's folder", where)
    return EncodedImage(data)


def _text(record: Mapping[str, object], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise DataError("is missing or not a string", f"{where}.{key}")
    require_whole(value, f"{where}.{key}")
    return value


def require_whole(text: str, where: str) -> None:
    """Raises DataError, at `where`, for a text with half a character: no tokenizer takes it, no file can hold it.

    JSON can write one as "\\ud800", and an argument that isn't UTF-8 reaches Python with such halves in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("holds half a character (a lone surrogate)", where) from None
