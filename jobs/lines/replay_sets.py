"""Replay sets: what is kept of a forgotten person, until its client, its retention or a rollback ends that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.database import SessionFactory
from jobs.lines.releases import is_current
from jobs.states import OPEN
from jobs.storage.blobs import BlobMissing, BlobStore
from jobs.storage.crypto import DecryptionError, Keyring
from jobs.storage.inputs import open_sealed
from jobs.tables import Client, Job, Release, ReleaseJob, ReplaySet
from vgid_core.data.pairs import PairSet

_BATCH = 500
_ORPHAN_SECONDS = 3600.0  # an attempt stores a replay set moments before it ends its job


def replay_set_of(s: Session, client_id: UUID, job_id: UUID) -> ReplaySet | None:
    """The replay set of the client's job, also one that is ended. None if none was kept."""
    return s.scalar(
        select(ReplaySet)
        .join(Job, Job.id == ReplaySet.job_id)
        .where(Job.client_id == client_id, ReplaySet.job_id == job_id)
    )


def kept_pairs(s: Session, client_id: UUID) -> int:
    """Pairs in the client's replay sets, and those that its open jobs may yet add: at most all that they forget."""
    held = select(func.coalesce(func.sum(ReplaySet.pairs), 0)).join(Job, Job.id == ReplaySet.job_id)
    coming = select(func.coalesce(func.sum(Job.forget_pairs), 0)).where(
        Job.replay_days.is_not(None), or_(*(Job.state == state for state in OPEN))
    )
    of_client = Job.client_id == client_id
    parts = (held.where(ReplaySet.ended_at.is_(None), of_client), coming.where(of_client))
    # One statement sees a job either as open or with its replay set.
    return sum(s.execute(select(*(part.scalar_subquery() for part in parts))).one())


class ReplaySetOfLine(NamedTuple):
    """A replay set with what the current release says of its people. checked_in: None of whom it doesn't hold."""

    job_id: UUID
    client: str
    pairs: int
    expires_at: datetime
    still_forgotten: bool | None
    checked_in: int | None


def of_line(s: Session, model: str, line: str) -> list[ReplaySetOfLine]:
    """The replay sets of the line's jobs, the oldest first."""
    current = select(Release.id).where(is_current(model, line)).scalar_subquery()
    in_release = and_(ReleaseJob.job_id == ReplaySet.job_id, ReleaseJob.release_id == current)
    found = (
        select(
            ReplaySet.job_id,
            Client.name,
            ReplaySet.pairs,
            ReplaySet.expires_at,
            ReleaseJob.still_forgotten,
            ReleaseJob.checked_in,
        )
        .join(Job, Job.id == ReplaySet.job_id)
        .join(Client, Client.id == Job.client_id)
        .outerjoin(ReleaseJob, in_release)
        .where(Job.model == model, Job.line == line, ReplaySet.ended_at.is_(None))
        .order_by(ReplaySet.created_at, ReplaySet.job_id)
    )
    return [ReplaySetOfLine(*row) for row in s.execute(found)]


def open_replay_set(blobs: BlobStore, keyring: Keyring, job_id: UUID, wrapped_key: bytes) -> PairSet | None:
    """What the replay set holds. None if its file is lost or can't be opened: then nobody can check its people."""
    try:
        return open_sealed(blobs.read_replay_set(job_id), keyring.unwrap(wrapped_key, job_id)).forget
    except (BlobMissing, DecryptionError):
        return None


def end_replay_set(s: Session, job_id: UUID) -> bool:
    """Drops the replay set's key, so that nobody can read it any more. False if there is no replay set, or no key.

    Delete the file after the commit (`delete_replay_set_file`); if a crash interrupts that, the reaper does it.
    """
    ended = (
        update(ReplaySet)
        .where(ReplaySet.job_id == job_id, ReplaySet.ended_at.is_(None))
        .values(wrapped_key=None, ended_at=transitions.database_now(s))
        .returning(ReplaySet.job_id)
    )
    return s.scalar(ended) is not None


def end_replay_set_of_model(s: Session, model: str, job_id: UUID) -> bool:
    """Ends the replay set if its job is one of this model.

    False as `end_replay_set`, and for a job of another model.
    """
    of_model = s.scalar(select(Job.id).where(Job.id == job_id, Job.model == model))
    return of_model is not None and end_replay_set(s, job_id)


def delete_replay_set_file(sessions: SessionFactory, blobs: BlobStore, job_id: UUID) -> None:
    """Deletes an ended replay set's file and records that. A second call changes nothing. Raises OSError."""
    blobs.delete_replay_set(job_id)
    gone = update(ReplaySet).where(
        ReplaySet.job_id == job_id, ReplaySet.ended_at.is_not(None), ReplaySet.deleted_at.is_(None)
    )
    with sessions.begin() as s:
        s.execute(gone.values(deleted_at=func.clock_timestamp()))


def reap_replay_sets(sessions: SessionFactory, blobs: BlobStore) -> list[UUID]:
    """Ends replay sets whose retention is over, and deletes the files of ended ones and those that no job has named.

    Returns the jobs whose replay sets' files are gone. A file that can't be deleted is tried again at the next round.
    """
    with sessions.begin() as s:
        over = select(ReplaySet.job_id).where(ReplaySet.ended_at.is_(None), ReplaySet.expires_at <= func.now())
        for job_id in s.scalars(over.limit(_BATCH).with_for_update(skip_locked=True)).all():
            end_replay_set(s, job_id)
    with sessions.begin() as s:
        left = select(ReplaySet.job_id).where(
            ReplaySet.ended_at.is_not(None), ReplaySet.deleted_at.is_(None), ReplaySet.receipt.is_(None)
        )
        ended = list(s.scalars(left.order_by(ReplaySet.ended_at).limit(_BATCH)))
    deleted = []
    for job_id in [*ended, *_orphans(sessions, blobs)]:
        try:
            delete_replay_set_file(sessions, blobs, job_id)
        except OSError:
            continue
        deleted.append(job_id)
    return deleted


def _orphans(sessions: SessionFactory, blobs: BlobStore) -> Sequence[UUID]:
    """Old files that no replay set's row names: an attempt ended before its job did."""
    stored = blobs.replay_sets_older_than(_ORPHAN_SECONDS)
    if not stored:
        return []
    with sessions.begin() as s:
        named = set(s.scalars(select(ReplaySet.job_id).where(ReplaySet.job_id.in_(stored))))
    return [job_id for job_id in stored if job_id not in named]
