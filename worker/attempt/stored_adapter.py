"""Unpacks an adapter that an earlier job has left."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from jobs.storage.blobs import BlobMissing, BlobStore
from worker.attempt.artifact_zip import unpack_artifact
from worker.attempt.not_runnable import JobNotRunnable


def unpack_stored(blobs: BlobStore, sha256: str | None, folder: Path, which: str) -> None:
    """Unpacks the artifact into the new `folder`. Raises JobNotRunnable, which says "The {which} ..." of it."""
    try:
        if sha256 is None:
            raise BlobMissing
        unpack_artifact(blobs.path_of_artifact(sha256), folder)
    except BlobMissing:
        raise JobNotRunnable("adapter-missing", f"The {which} isn't stored any more.") from None
    except BadZipFile:
        raise JobNotRunnable("adapter-damaged", f"The {which} can't be unpacked.") from None
