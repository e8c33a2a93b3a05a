"""The artifact as one file: a zip whose bytes depend on its members' names and bytes alone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # zip knows no earlier time
_UNIX = 3
_CHUNK_BYTES = 1024 * 1024


def package(folder: Path, target: Path) -> list[dict[str, Any]]:
    """Writes the files of `folder` into `target`, by name, uncompressed (weights don't compress, and can be ranged).

    Returns {name, sha256, size in bytes} of each.
    """
    listing = []
    with ZipFile(target, "x", compression=ZIP_STORED) as archive:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            size = file.stat().st_size
            entry = ZipInfo(file.name, date_time=_EARLIEST)
            entry.create_system = _UNIX
            entry.external_attr = 0o644 << 16
            entry.file_size = size  # known beforehand, so that the format (zip64 or not) follows from it
            with file.open("rb") as source, archive.open(entry, "w") as member:
                shutil.copyfileobj(source, member, _CHUNK_BYTES)
            with file.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
            listing.append({"name": file.name, "sha256": digest, "size": size})
    return listing
