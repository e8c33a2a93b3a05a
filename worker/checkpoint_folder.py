"""The folder of a job's checkpoints on this machine, from which the job's next attempt resumes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from uuid import UUID

from jobs.database import SessionFactory
from jobs.repository import select_ended, select_open
from jobs.settings import Settings
from worker.work_folder import private_folder, work_root

_PREFIX = "checkpoint-"
_ABANDONED_SECONDS = 24 * 3600.0


def checkpoint_folder(settings: Settings, job_id: UUID) -> Path:
    """The folder for this job's checkpoints. Its first checkpoint creates it."""
    return checkpoint_root(settings) / f"{_PREFIX}{job_id}"


def delete_checkpoint(settings: Settings, job_id: UUID) -> None:
    """Deletes the job's checkpoint folder. What can't be deleted now is left to `delete_ended_checkpoints`."""
    shutil.rmtree(checkpoint_folder(settings, job_id), ignore_errors=True)


def delete_ended_checkpoints(settings: Settings, sessions: SessionFactory) -> list[UUID]:
    """Deletes the checkpoints of jobs that have ended, for example on another machine. Returns the jobs' ids.

    A checkpoint of a job that this database doesn't know is deleted after a day without a write. It may belong to
    another deployment whose workers share this account, so it must stay while its training runs. Or its deployment is
    gone, and nobody else would ever delete what was made from people's data. Rows of jobs are never deleted, so this
    deployment knows all its own jobs.
    """
    found = [UUID(folder.name.removeprefix(_PREFIX)) for folder in checkpoint_root(settings).glob(f"{_PREFIX}*")]
    if not found:
        return []
    with sessions.begin() as s:
        ended, unfinished = select_ended(s, found), select_open(s, found)
    unknown = set(found) - ended - unfinished
    outdated = [
        job_id for job_id in found if job_id in ended or (job_id in unknown and _is_abandoned(settings, job_id))
    ]
    for job_id in outdated:
        delete_checkpoint(settings, job_id)
    return outdated


def checkpoint_root(settings: Settings) -> Path:
    """The folder of all checkpoints. Raises PermissionError when another account can enter it."""
    return work_root() if settings.checkpoint_dir is None else private_folder(settings.checkpoint_dir)


def _is_abandoned(settings: Settings, job_id: UUID) -> bool:
    """Whether no checkpoint was written for a day. Each one is renamed into place, which sets the folder's time."""
    try:
        written = checkpoint_folder(settings, job_id).stat().st_mtime
    except FileNotFoundError:  # another worker has just deleted it
        return False
    return time.time() - written > _ABANDONED_SECONDS
