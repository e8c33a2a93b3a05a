"""What follows the end of a job, after the commit that ended it."""

from __future__ import annotations

from uuid import UUID

from jobs.database import SessionFactory
from jobs.repository import mark_inputs_deleted
from jobs.storage.blobs import BlobStore


def delete_inputs(sessions: SessionFactory, blobs: BlobStore, job_id: UUID) -> None:
    """Deletes what was uploaded for the job and records that; interrupted in between, the reaper does it again.

    The data key went with the commit, so that the file is unreadable already. Raises OSError.
    """
    blobs.delete_inputs(job_id)
    with sessions.begin() as s:
        mark_inputs_deleted(s, job_id)
