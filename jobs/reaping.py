"""The reaper: it repairs what crashes leave behind, which is expired claims, lost wake-ups and leftover files.

Any number of processes may reap at the same time. Row locks in Postgres decide which of them repairs what.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs import parting, transitions
from jobs.database import SessionFactory
from jobs.lines.replay_sets import reap_replay_sets
from jobs.queueing import turns
from jobs.queueing.queue import JobQueue, QueueUnavailable
from jobs.repository import select_open
from jobs.settings import Settings
from jobs.states import State
from jobs.storage.blobs import BlobStore
from jobs.storage.input_cleanup import delete_inputs
from jobs.tables import Artifact, Job, Release

_BATCH = 500
_ORPHAN_SECONDS = 3600.0  # no upload takes longer from its first byte on disk to its commit


@dataclass(frozen=True)
class ReapReport:
    """What one round did, as ids of jobs.

    orphans_deleted: uploads without an open job. undeletable: jobs whose uploads couldn't be deleted. Every round tries
    again, and an operator should look.
    """

    requeued: list[UUID]
    attempts_exhausted: list[UUID]
    cancelled: list[UUID]
    inputs_deleted: list[UUID]
    replay_sets_deleted: list[UUID]
    orphans_deleted: list[UUID]
    undeletable: list[UUID]


def reap(sessions: SessionFactory, blobs: BlobStore, settings: Settings, queue: JobQueue) -> ReapReport:
    """Does one round of repairs. Raises what the database or the disk raises.

    Without the queue the round goes on: a later one wakes a worker.
    """
    with sessions.begin() as s:
        expired = _expire_leases(s, settings.max_attempts)
    with sessions.begin() as s:
        job_waits = turns.next_job(s, gather_seconds=settings.gather_seconds) is not None
    if job_waits:  # most often because all workers are busy, but its wake-up may be lost
        with suppress(QueueUnavailable):
            queue.wake()
    inputs_deleted, inputs_left = _delete_inputs_of_ended_jobs(sessions, blobs)
    orphans_deleted, orphans_left = _delete_orphans(sessions, blobs)
    return ReapReport(
        requeued=expired[State.queued],
        attempts_exhausted=expired[State.failed],
        cancelled=expired[State.cancelled],
        inputs_deleted=inputs_deleted,
        replay_sets_deleted=reap_replay_sets(sessions, blobs),
        orphans_deleted=orphans_deleted,
        undeletable=inputs_left + orphans_left,
    )


def _expire_leases(s: Session, max_attempts: int) -> dict[State, list[UUID]]:
    """Takes jobs from workers that stopped renewing their leases. Returns the jobs by the state they went to."""
    jobs_by_state: dict[State, list[UUID]] = {State.queued: [], State.failed: [], State.cancelled: []}
    now = transitions.database_now(s)
    expired = select(Job).where(turns.in_state(State.running), Job.lease_expires_at < func.now())
    found = s.scalars(expired.order_by(Job.lease_expires_at).limit(_BATCH).with_for_update(skip_locked=True)).all()
    transitions.lock_clients(s, found)
    for job in sorted(found, key=lambda job: job.run_of is not None):  # whose length is shared out comes first
        parting.part_from_unknown(job)
        state = transitions.requeue_or_end(s, job, now, max_attempts, "lease_expired")
        jobs_by_state[state].append(job.id)
    return jobs_by_state


def sweep_artifacts(sessions: SessionFactory, blobs: BlobStore) -> list[str]:
    """Deletes artifacts that no job and no release names, and returns their sha256.

    Raises what the database or the disk raises.
    An attempt leaves such an artifact if its job was cancelled or taken away while it stored the file. The sweep looks
    at every artifact, so it isn't part of every round.
    """
    deleted: list[str] = []
    old = blobs.artifacts_older_than(_ORPHAN_SECONDS)
    for start in range(0, len(old), _BATCH):
        candidates = old[start : start + _BATCH]
        with sessions.begin() as s:
            of_jobs = select(Artifact.sha256).where(Artifact.sha256.in_(candidates))
            of_releases = select(Release.zip_sha256).where(Release.zip_sha256.in_(candidates))
            named = set(s.scalars(of_jobs.union(of_releases)))
        # An attempt may have stored and named it again since. Then it is young again, and delete_artifact keeps it.
        deleted += [
            sha256
            for sha256 in candidates
            if sha256 not in named and blobs.delete_artifact(sha256, older_than=_ORPHAN_SECONDS)
        ]
    return deleted


def _delete_inputs_of_ended_jobs(sessions: SessionFactory, blobs: BlobStore) -> tuple[list[UUID], list[UUID]]:
    """Deletes the uploads that ended jobs have left. Returns the jobs whose uploads are gone, and the others."""
    # A constraint makes `finished_at` mean "has ended". Asked this way, the query can use ix_jobs_inputs_remain.
    remain = select(Job.id).where(Job.finished_at.is_not(None), Job.inputs_deleted_at.is_(None))
    with sessions.begin() as s:
        job_ids = list(s.scalars(remain.order_by(Job.finished_at).limit(_BATCH)))
    return _delete_each(job_ids, partial(delete_inputs, sessions, blobs))


def _delete_orphans(sessions: SessionFactory, blobs: BlobStore) -> tuple[list[UUID], list[UUID]]:
    """Deletes uploads that no open job owns, and returns as above. The API stopped before the job's commit."""
    blobs.delete_unfinished(_ORPHAN_SECONDS)
    candidates = blobs.inputs_older_than(_ORPHAN_SECONDS)
    if not candidates:
        return [], []
    with sessions.begin() as s:
        owned = select_open(s, candidates)
    return _delete_each([job_id for job_id in candidates if job_id not in owned], blobs.delete_inputs)


def _delete_each(job_ids: list[UUID], delete: Callable[[UUID], None]) -> tuple[list[UUID], list[UUID]]:
    """Returns the jobs that were deleted, and those that weren't. One that fails doesn't keep the others."""
    deleted, left = [], []
    for job_id in job_ids:
        try:
            delete(job_id)
        except OSError:
            left.append(job_id)
        else:
            deleted.append(job_id)
    return deleted, left
