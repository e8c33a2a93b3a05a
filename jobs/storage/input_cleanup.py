"""Deletes a job's uploads, after the commit that ended the job."""

from __future__ import annotations

from uuid import UUID

from jobs.database import SessionFactory
from jobs.repository import mark_inputs_deleted, select_ended
from jobs.storage.blobs import BlobStore


def delete_inputs(sessions: SessionFactory, blobs: BlobStore, job_id: UUID) -> None:
    """Deletes the job's uploads and records that. If a crash interrupts it, the reaper does it again. Raises OSError.

    The commit has dropped the data key, so the uploads are unreadable already. A job that hasn't ended keeps them.
    """
    with sessions() as s:
        if not select_ended(s, [job_id]):
            return
    blobs.delete_inputs(job_id)
    with sessions.begin() as s:
        mark_inputs_deleted(s, job_id)
