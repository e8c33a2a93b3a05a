"""What an attempt leaves for the next one at the same job on this machine: a private folder that goes with the job."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

from jobs.database import SessionFactory
from jobs.repository import open_among
from worker.work_folder import work_root

_PREFIX = "checkpoint-"


def checkpoint_folder(job_id: UUID) -> Path:
    """Where the attempts at this job leave their checkpoints. It isn't made here."""
    return work_root() / f"{_PREFIX}{job_id}"


def delete_checkpoint(job_id: UUID) -> None:
    """Deletes it, if there is one. What the disk holds on to is left to `delete_ended_checkpoints`."""
    shutil.rmtree(checkpoint_folder(job_id), ignore_errors=True)


def delete_ended_checkpoints(sessions: SessionFactory) -> list[UUID]:
    """Deletes the checkpoints of jobs that ended where this machine wasn't told; the jobs' ids."""
    found = [UUID(folder.name.removeprefix(_PREFIX)) for folder in work_root().glob(f"{_PREFIX}*")]
    if not found:
        return []
    with sessions.begin() as s:
        going_on = open_among(s, found)
    ended = [job_id for job_id in found if job_id not in going_on]
    for job_id in ended:
        delete_checkpoint(job_id)
    return ended
