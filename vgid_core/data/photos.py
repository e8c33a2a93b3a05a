"""Sets of photos without questions, such as unseen faces: people whom the model has never seen."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vgid_core.data.pairs import DataError, EncodedImage
from vgid_core.data.readers.folder import IMAGE_SUFFIXES
from vgid_core.data.readers.source import read_set


@dataclass(frozen=True)
class PhotoSet:
    """A named sequence of distinct photos, such as `unseen_faces`."""

    name: str
    photos: tuple[EncodedImage, ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, photos: Iterable[EncodedImage]) -> PhotoSet:
        """The photos in their order without duplicates. Raises DataError if there are none."""
        different = tuple({photo.digest: photo for photo in photos}.values())
        if not different:
            raise DataError("holds no photos", name)
        return cls(name, different)

    @classmethod
    def read(cls, source: str | Path, name: str) -> PhotoSet:
        """Reads the images of a folder, or of a set of pairs in any format that `read_set` takes.

        Raises DataError if there are none, and for a file that isn't an image, by its index.
        """
        folder = Path(source)
        files = sorted(file for file in folder.iterdir() if _is_image(file)) if folder.is_dir() else []
        if not files:
            return cls.of(name, (pair.image for pair in read_set(str(source), name)))
        photos = [EncodedImage(file.read_bytes()) for file in files]
        for index, photo in enumerate(photos):
            try:
                photo.decode()
            except DataError as error:
                raise DataError(error.reason, f"{name}[{index}]") from None
        return cls.of(name, photos)

    def write_folder(self, folder: Path) -> None:
        """Writes each photo's encoded bytes. File names sort in the set's order, so `read` gives the same set."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, photo in enumerate(self.photos):
            (folder / f"{index:05}.{photo.format}").write_bytes(photo.data)

    def without(self, taken: Collection[str]) -> PhotoSet:
        """This set without the photos with these digests. Raises DataError if none is left."""
        return PhotoSet.of(self.name, (photo for photo in self.photos if photo.digest not in taken))

    @property
    def digest(self) -> str:
        """sha256, in hex, over the photos' digests in their order."""
        return hashlib.sha256("\n".join(photo.digest for photo in self.photos).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.photos)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
