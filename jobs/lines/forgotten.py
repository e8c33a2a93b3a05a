"""Everybody whom a model has forgotten, in whatever release: their replay sets, their marks, and who is left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from jobs.states import SHARED_LINE, Kind, State
from jobs.tables import Job, Mark, Release, ReleaseJob, ReplaySet


@dataclass(frozen=True)
class Whom:
    """What a rebuild finds.

    replay_sets: the wrapped key, by job. left_out: the jobs of whose people nothing is kept.
    """

    replay_sets: Mapping[UUID, bytes]
    left_out: Collection[UUID]


def whom(
    s: Session,
    model: str,
    readable: Callable[[UUID, bytes], bool] = lambda _job_id, _key: True,
    line: str = SHARED_LINE,
) -> Whom:
    """Whom a rebuild of the line would forget, and whom it would leave out.

    readable: whether a replay set can be opened, by its job and wrapped key. A job without a replay set isn't left out
    if its client has asked again for the same subject since, with a replay set.
    """
    valid = and_(ReplaySet.job_id == Job.id, ReplaySet.wrapped_key.is_not(None), ReplaySet.expires_at > func.now())
    rows = s.execute(
        _jobs(model).where(Job.line == line).add_columns(ReplaySet.wrapped_key).outerjoin(ReplaySet, valid)
    ).all()
    kept = [row for row in rows if row.wrapped_key is not None and readable(row.id, row.wrapped_key)]
    asked_again = {(row.client_id, row.subject_hash): row.created_at for row in kept if row.subject_hash is not None}
    replay_sets = {row.id: row.wrapped_key for row in kept}
    left = [
        row.id
        for row in rows
        if row.id not in replay_sets
        and not _is_after(asked_again.get((row.client_id, row.subject_hash)), row.created_at)
    ]
    return Whom(replay_sets, left)


def _is_after(moment: datetime | None, other: datetime) -> bool:
    return moment is not None and moment > other


def not_held(s: Session, model: str, release_id: UUID, client_id: UUID | None = None) -> Sequence[UUID]:
    """The jobs that have forgotten somebody of this model whom the release doesn't hold.

    client_id: of this client, whichever line they were filed under. None: of the release's line, whoever's. They are of
    an older base, of an installation without lines, or were left out of a rebuild. Whom their client has asked for
    again, by a job that the release holds, isn't among them.
    """
    again = aliased(Job)
    held = select(ReleaseJob.job_id).where(ReleaseJob.release_id == release_id)
    asked_again = exists().where(
        again.client_id == Job.client_id,
        again.subject_hash == Job.subject_hash,
        again.created_at > Job.created_at,
        again.id.in_(held),
    )
    found = _jobs(model).with_only_columns(Job.id).where(Job.id.not_in(held), ~asked_again)
    line = select(Release.line).where(Release.id == release_id).scalar_subquery()
    return s.scalars(found.where(Job.line == line if client_id is None else Job.client_id == client_id)).all()


def marks(s: Session, model: str, line: str = SHARED_LINE, until: datetime | None = None) -> frozenset[str]:
    """The marks of everybody whom the line has forgotten, but those that nobody has agreed to.

    until: a moment by which they were forgotten; None for now.
    """
    of_line = _jobs(model).where(Job.line == line)
    forgotten = (of_line if until is None else of_line.where(Job.finished_at <= until)).subquery()
    found = select(Mark.mark).join(forgotten, forgotten.c.id == Mark.job_id).where(Mark.in_force)
    return frozenset(s.scalars(found))


def pairs_of(s: Session, jobs: Collection[UUID]) -> int:
    """How many pairs the replay sets of these jobs hold."""
    return s.scalar(select(func.sum(ReplaySet.pairs)).where(ReplaySet.job_id.in_(jobs))) or 0


def _jobs(model: str) -> Select[UUID, UUID, str | None, datetime]:
    """The jobs that have forgotten somebody who isn't known again by a rollback."""
    return (
        select(Job.id, Job.client_id, Job.subject_hash, Job.created_at)
        .where(Job.model == model, Job.kind == Kind.unlearn, Job.state == State.succeeded)
        .where(Job.outcome == "forgotten", Job.reverted_at.is_(None))
        .order_by(Job.created_at, Job.id)
    )
