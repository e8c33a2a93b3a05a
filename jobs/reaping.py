"""Repairs what crashes leave behind: lost claims, lost messages, files that nobody needs any more.

Any number of processes may reap at once; Postgres decides who does what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.database import SessionFactory
from jobs.queue import JobQueue, QueueUnavailable
from jobs.repository import open_among
from jobs.settings import Settings
from jobs.states import State
from jobs.storage.blobs import BlobStore
from jobs.storage.input_cleanup import delete_inputs
from jobs.tables import Artifact, Job

_BATCH = 500
_ORPHAN_SECONDS = 3600.0  # longer than any upload takes from its first byte on disk to its commit
_REPUBLISH_LOCK = 0x76676964  # "vgid"


@dataclass(frozen=True)
class ReapReport:
    """What one round did. `queue_reachable` is False when lost messages couldn't be looked for.

    `undeletable` are the jobs whose uploads the disk didn't let go: every round tries again, and a person should look.
    """

    requeued: list[UUID]
    attempts_exhausted: list[UUID]
    cancelled: list[UUID]
    republished: list[UUID]
    inputs_deleted: list[UUID]
    orphans_deleted: list[UUID]
    undeletable: list[UUID]
    queue_reachable: bool


def reap(sessions: SessionFactory, blobs: BlobStore, settings: Settings, queue: JobQueue) -> ReapReport:
    """One round of repairs. Raises what the database or the disk raise; an unreachable queue is only reported."""
    with sessions.begin() as s:
        expired = _expire_leases(s, settings.max_attempts)
    republished: list[UUID] = []
    queue_reachable = True
    try:
        for job_id in expired[State.queued]:
            queue.publish(job_id)
        depth = queue.depth()
        with sessions.begin() as s:
            republished = _choose_lost(s, depth, settings.republish_after_seconds)
        for job_id in republished:
            queue.publish(job_id)
    except QueueUnavailable:
        queue_reachable = False
    inputs_deleted, ended_left = _sweep_ended(sessions, blobs)
    orphans_deleted, orphans_left = _sweep_orphans(sessions, blobs)
    return ReapReport(
        requeued=expired[State.queued],
        attempts_exhausted=expired[State.failed],
        cancelled=expired[State.cancelled],
        republished=republished,
        inputs_deleted=inputs_deleted,
        orphans_deleted=orphans_deleted,
        undeletable=ended_left + orphans_left,
        queue_reachable=queue_reachable,
    )


def _expire_leases(s: Session, max_attempts: int) -> dict[State, list[UUID]]:
    """Takes jobs from workers that stopped renewing; says which job went where."""
    went: dict[State, list[UUID]] = {State.queued: [], State.failed: [], State.cancelled: []}
    now = transitions.database_now(s)
    lost = select(Job).where(Job.state == State.running, Job.lease_expires_at < func.now())
    for job in s.scalars(lost.order_by(Job.lease_expires_at).limit(_BATCH).with_for_update(skip_locked=True)):
        went[transitions.lose_attempt(s, job, now, max_attempts, "lease_expired")].append(job.id)
    return went


def _choose_lost(s: Session, depth: int, after_seconds: float) -> list[UUID]:
    """The queued jobs to publish again: as many as messages are missing, longest unpublished first.

    Jobs may wait for hours behind others, so a job's age alone proves no loss: a message is missing only where
    fewer wait in Redis (`depth`) than there are jobs whose message should have arrived. Which one is missing can't
    be told; a surplus message finds nothing to claim and is dropped, and what is still missing shows as the
    queue drains. Messages that a killed worker had fetched aren't in `depth`, so they count as lost, rightly.
    """
    if not s.execute(select(func.pg_try_advisory_xact_lock(_REPUBLISH_LOCK))).scalar_one():
        return []
    stale = (Job.state == State.queued, Job.published_at < func.now() - timedelta(seconds=after_seconds))
    missing = s.execute(select(func.count()).where(*stale)).scalar_one() - depth
    if missing <= 0:
        return []
    now = transitions.database_now(s)
    chosen = select(Job).where(*stale).order_by(Job.published_at).limit(min(missing, _BATCH))
    jobs = s.scalars(chosen.with_for_update(skip_locked=True)).all()
    for job in jobs:
        job.published_at = now
    return [job.id for job in jobs]


def sweep_artifacts(sessions: SessionFactory, blobs: BlobStore) -> list[str]:
    """Deletes artifacts that no job names: stored by an attempt whose job was cancelled or taken away meanwhile.

    The sha256 of each. Looks at every artifact, so it isn't for every round. Raises what the database or disk raise.
    """
    deleted: list[str] = []
    old = blobs.artifacts_older_than(_ORPHAN_SECONDS)
    for start in range(0, len(old), _BATCH):
        candidates = old[start : start + _BATCH]
        with sessions.begin() as s:
            named = set(s.scalars(select(Artifact.sha256).where(Artifact.sha256.in_(candidates))))
        # stored again since, it may be named by now: then it isn't old any more, and stays
        deleted += [
            sha256
            for sha256 in candidates
            if sha256 not in named and blobs.delete_artifact(sha256, older_than=_ORPHAN_SECONDS)
        ]
    return deleted


def _sweep_ended(sessions: SessionFactory, blobs: BlobStore) -> tuple[list[UUID], list[UUID]]:
    """Deletes the uploads of jobs that ended without anybody deleting them: those that are gone, those that aren't."""
    # has a time of finishing: has ended, by a constraint; said this way, the index leaves out those that haven't
    remain = select(Job.id).where(Job.finished_at.is_not(None), Job.inputs_deleted_at.is_(None))
    with sessions.begin() as s:
        job_ids = list(s.scalars(remain.order_by(Job.finished_at).limit(_BATCH)))
    return _delete_each(job_ids, partial(delete_inputs, sessions, blobs))


def _sweep_orphans(sessions: SessionFactory, blobs: BlobStore) -> tuple[list[UUID], list[UUID]]:
    """Deletes uploads that no open job owns: the API stopped between the file and the commit."""
    blobs.delete_unfinished(_ORPHAN_SECONDS)
    candidates = blobs.inputs_older_than(_ORPHAN_SECONDS)
    if not candidates:
        return [], []
    with sessions.begin() as s:
        owned = open_among(s, candidates)
    return _delete_each([job_id for job_id in candidates if job_id not in owned], blobs.delete_inputs)


def _delete_each(job_ids: list[UUID], delete: Callable[[UUID], None]) -> tuple[list[UUID], list[UUID]]:
    """Which were deleted and which weren't: one folder that the disk holds on to mustn't keep the others."""
    deleted, left = [], []
    for job_id in job_ids:
        try:
            delete(job_id)
        except OSError:
            left.append(job_id)
        else:
            deleted.append(job_id)
    return deleted, left
