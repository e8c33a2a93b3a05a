"""Unpacks an adapter that an earlier job has left."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from jobs import repository
from jobs.database import SessionFactory
from jobs.lines import releases
from jobs.storage.blobs import BlobMissing, BlobStore
from jobs.tables import Job, Release
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


def unpack_measured(sessions: SessionFactory, blobs: BlobStore, job: Job, folder: Path) -> Path | None:
    """Unpacks the adapter that the evaluation measures, and returns its folder; None for the base alone."""
    if job.adapter_of is None and job.release_id is None:
        return None
    with sessions() as s:
        if job.release_id is not None:
            archive = releases.zip_of(s, s.get_one(Release, job.release_id), or_of_its_job=True)
            sha256 = None if archive is None else archive.sha256
        else:
            found = repository.adapter_of(s, job.client_id, job.adapter_of) if job.adapter_of is not None else None
            sha256 = None if found is None else found.sha256
    unpack_stored(blobs, sha256, folder, "adapter")
    return folder
