"""Packs the artifact into one zip, whose bytes depend on the members' names and bytes alone, and unpacks it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_UNIX = 3
_CHUNK_BYTES = 1024 * 1024


def write_artifact_zip(folder: Path, target: Path) -> list[dict[str, Any]]:
    """Writes the files of `folder` into the zip `target`, by name. Returns {name, sha256, size} of each, size in bytes.

    The members are stored uncompressed: weights hardly compress, and the service can then send ranges of a member.
    A write that fails leaves no file.
    """
    try:
        with ZipFile(target, "x", compression=ZIP_STORED) as archive:
            return _write_members(folder, archive)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            target.unlink(missing_ok=True)
        raise


def _write_members(folder: Path, archive: ZipFile) -> list[dict[str, Any]]:
    listing = []
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        entry = ZipInfo(file.name, date_time=_FIXED_TIME)
        entry.create_system = _UNIX
        entry.external_attr = 0o644 << 16
        entry.file_size = size  # set before writing, because it decides between zip and zip64
        with file.open("rb") as source, archive.open(entry, "w") as member:
            shutil.copyfileobj(source, member, _CHUNK_BYTES)
        with file.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        listing.append({"name": file.name, "sha256": digest, "size": size})
    return listing


def unpack_artifact(archive: Path, folder: Path) -> None:
    """Writes the members of a zip by `write_artifact_zip` into the new `folder`. Raises zipfile.BadZipFile or OSError.

    A member's bytes are held against the zip's checksum of them.
    """
    folder.mkdir()
    with ZipFile(archive) as packed:
        packed.extractall(folder)
