"""The lists of a client's jobs: filters, orders, pages, and how many there are."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, select, tuple_
from sqlalchemy.orm import Session, defer

from jobs.states import Kind, State
from jobs.tables import Job

Sort = Literal["created_at", "-created_at", "due_at", "-due_at"]

_NEVER: ColumnElement[datetime] = literal_column("'infinity'::timestamptz")
# A job without a deadline has a place, too. The index for it holds the same expression.
_DUE = func.coalesce(Job.due_at, _NEVER)
_KEYS: dict[str, ColumnElement[datetime]] = {"created_at": Job.created_at.expression, "due_at": _DUE}


class InvalidCursor(ValueError):
    """The cursor wasn't made by `list_page` in this order."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs of one kind to list; None and empty leave none out.

    metadata: keys with their values, all of which a job must have. *_after: at this moment or later. *_before: before
    this moment.
    """

    kind: Kind = Kind.unlearn
    model: str | None = None
    state: State | None = None
    external_id: str | None = None
    subject_hash: str | None = None
    metadata: Sequence[Sequence[str]] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None

    def conditions(self, client_id: UUID) -> list[ColumnElement[bool]]:
        """The conditions of a query for the client's jobs among these."""
        equal = {
            Job.kind: self.kind,
            Job.state: self.state,
            Job.model: self.model,
            Job.external_id: self.external_id,
            Job.subject_hash: self.subject_hash,
        }
        found = [Job.client_id == client_id, *(column == value for column, value in equal.items() if value is not None)]
        found += [Job.job_metadata.contains({key: value}) for key, value in self.metadata]
        if self.created_after is not None:
            found.append(Job.created_at >= self.created_after)
        if self.created_before is not None:
            found.append(Job.created_at < self.created_before)
        if self.due_after is not None:
            found += [self.due_after <= _DUE, Job.due_at.is_not(None)]
        if self.due_before is not None:
            found.append(self.due_before > _DUE)
        return found


def list_page(
    s: Session,
    client_id: UUID,
    wanted: JobFilter = JobFilter(),
    *,
    sort: Sort = "-created_at",
    cursor: str | None = None,
    limit: int = 20,
) -> tuple[Sequence[Job], str | None]:
    """Returns a page of the client's jobs and the next page's cursor (None on the last page). Raises InvalidCursor.

    A job without a deadline counts as due after all others. New jobs don't shift the pages.
    """
    key, descends = _KEYS[sort.removeprefix("-")], sort.startswith("-")
    query = select(Job).where(*wanted.conditions(client_id)).options(defer(Job.receipt))
    if cursor is not None:
        own, last = tuple_(key, Job.id), tuple_(*_read_cursor(cursor, sort))
        query = query.where(own < last if descends else own > last)
    # The id decides between jobs of one moment.
    order = [column.desc() if descends else column.asc() for column in (key, Job.id)]
    jobs = s.scalars(query.order_by(*order).limit(limit + 1)).all()
    page = jobs[:limit]
    return page, _cursor_after(page[-1], sort) if len(jobs) > limit else None


def count_jobs(s: Session, client_id: UUID, wanted: JobFilter) -> int:
    """How many of the client's jobs there are on all pages. It reads them all."""
    return s.scalars(select(func.count()).select_from(Job).where(*wanted.conditions(client_id))).one()


def _cursor_after(job: Job, sort: Sort) -> str:
    moment: datetime | None = getattr(job, sort.removeprefix("-"))
    place = json.dumps([sort, moment and moment.isoformat(), job.id.hex]).encode()
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _read_cursor(cursor: str, sort: Sort) -> tuple[Any, UUID]:
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        own_sort, moment, job_id = json.loads(place)
        if own_sort != sort:
            raise ValueError
        if moment is None and sort.endswith("due_at"):
            return _NEVER, UUID(hex=job_id)
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError
        return at, UUID(hex=job_id)
    except (ValueError, TypeError, AttributeError):
        raise InvalidCursor("not a cursor of this list") from None
