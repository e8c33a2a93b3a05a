"""Orders to rebuild a line: whoever has a replay set is forgotten again, all in one run from the base."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs import repository
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.states import OPEN, SHARED_LINE, Kind
from jobs.tables import Job

# Rebuilds are nobody's requests. They stand under this client, which has no key.
CLIENT = "operator (rebuilds)"
_PRIORITY = 10
_LEAVE_OUT = "leave_out"
_MOST = 1000  # of rebuilds at a time, each of another line


class AlreadyOrdered(Exception):
    """A rebuild of the line waits or runs already."""


def order(
    s: Session,
    model: str,
    retain_set: str | None,
    pairs: int,
    leave_out: Collection[UUID] = (),
    line: str = SHARED_LINE,
) -> Job:
    """Adds a rebuild to the queue. From now on other jobs of the line wait for it. Raises AlreadyOrdered.

    leave_out: whom the operator has agreed to leave out. A rebuild that would leave out more ends as failed.
    """
    if open_rebuild(s, model, line) is not None:
        raise AlreadyOrdered
    client = access.find_client(s, CLIENT) or access.create_client(s, CLIENT)
    access.set_limits(s, client, ClientLimits(running_jobs=_MOST))  # a line's own limit is one
    job = Job(
        client_id=client.id,
        kind=Kind.rebuild,
        model=model,
        line=line,
        # A rebuild goes by the model's settings in the worker's catalog.
        config={_LEAVE_OUT: sorted(str(job_id) for job_id in leave_out)},
        retain_set=retain_set,
        forget_pairs=pairs,
        probes={},
        priority=_PRIORITY,
        request_hash="0" * 64,
    )
    try:
        with s.begin_nested():
            repository.submit(s, job)
    except IntegrityError:  # another order has come first
        raise AlreadyOrdered from None
    return job


def not_agreed(rebuild: Job, left_out: Collection[UUID]) -> Collection[UUID]:
    """Who would be left out of this rebuild without the operator's word."""
    return {job_id for job_id in left_out if str(job_id) not in rebuild.config[_LEAVE_OUT]}


def open_rebuild(s: Session, model: str, line: str = SHARED_LINE) -> Job | None:
    """The rebuild of the line that waits or runs, or None."""
    waits_or_runs = or_(*(Job.state == state for state in OPEN))
    return s.scalar(_rebuilds(model, line).where(waits_or_runs))


def last_rebuild(s: Session, model: str, line: str = SHARED_LINE) -> Job | None:
    """The newest rebuild of the line, or None."""
    return s.scalar(_rebuilds(model, line).order_by(Job.created_at.desc()).limit(1))


def _rebuilds(model: str, line: str) -> Select[Job]:
    return select(Job).where(Job.model == model, Job.line == line, Job.kind == Kind.rebuild)
