"""What an attempt leaves for the next one at the same job on this machine: a private folder that goes with the job."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from uuid import UUID

from jobs.database import SessionFactory
from jobs.repository import select_ended, select_open
from worker.work_folder import work_root

_PREFIX = "checkpoint-"
_FORSAKEN_SECONDS = 24 * 3600.0


def checkpoint_folder(job_id: UUID) -> Path:
    """Where the attempts at this job leave their checkpoints. It isn't made here."""
    return work_root() / f"{_PREFIX}{job_id}"


def delete_checkpoint(job_id: UUID) -> None:
    """Deletes it, if there is one. What the disk holds on to is left to `delete_ended_checkpoints`."""
    shutil.rmtree(checkpoint_folder(job_id), ignore_errors=True)


def delete_ended_checkpoints(sessions: SessionFactory) -> list[UUID]:
    """Deletes the checkpoints of jobs that ended where this machine wasn't told; the ids of all that it deletes.

    Of jobs that this database doesn't know, too, once nothing was written into them for a day. They can be those of
    another deployment whose workers run under this account, which can't be judged here while their training goes on;
    one that waits for longer begins anew. Or they are those of a deployment that is gone or a database that was
    replaced, which nobody else would ever delete: what was made from people's data isn't kept because nobody knows it.
    No job's row is ever deleted, so whatever is this deployment's own goes at once when its job has ended.
    """
    found = [UUID(folder.name.removeprefix(_PREFIX)) for folder in work_root().glob(f"{_PREFIX}*")]
    if not found:
        return []
    with sessions.begin() as s:
        ended, going_on = select_ended(s, found), select_open(s, found)
    gone = [job_id for job_id in found if job_id in ended or (job_id not in going_on and _is_forsaken(job_id))]
    for job_id in gone:
        delete_checkpoint(job_id)
    return gone


def _is_forsaken(job_id: UUID) -> bool:
    """Whether nothing was written there for a day: each checkpoint takes its place under another name first."""
    try:
        written = checkpoint_folder(job_id).stat().st_mtime
    except FileNotFoundError:  # another worker's housekeeping was here
        return False
    return time.time() - written > _FORSAKEN_SECONDS
