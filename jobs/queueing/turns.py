"""Which queued job comes next: due soon, then priority, then the clients' turns, then age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Uuid,
    all_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.selectable import LateralFromClause

from jobs.client_limits import ClientLimits
from jobs.states import State
from jobs.tables import Client, Job

# A job whose deadline is nearer than this, or past, goes before all that have more time.
SOON = timedelta(hours=72)

_LOCK = 0x76676964  # "vgid"
# Whoever freezes while it chooses holds up all others, so Postgres gives up on it much sooner than on other work.
_LOCK_MILLISECONDS = 5000
_DEFAULT_RUNNING_JOBS = ClientLimits().running_jobs


def in_state(state: State, of: Any = Job) -> ColumnElement[bool]:
    """Whether the job is in `state`, written out in the statement: a parameter can hide that a partial index fits."""
    written: ColumnElement[State] = literal_column(f"'{state.value}'", Job.state.type)
    return of.state == written  # type: ignore[no-any-return]


def take_turns(s: Session) -> None:
    """Makes the choice this transaction's alone until it ends. Others wait, so end it soon."""
    timeout = func.set_config("idle_in_transaction_session_timeout", str(_LOCK_MILLISECONDS), True)
    s.execute(select(timeout, func.pg_advisory_xact_lock(_LOCK)))


def next_job(s: Session, passed_over: Sequence[UUID] = ()) -> UUID | None:
    """The queued job whose turn it is, besides those passed over. None when no job may start now."""
    return s.scalar(_NEXT, {"passed_over": list(passed_over)})


def _first(name: str, *order: Any, due: bool) -> LateralFromClause:
    """The client's first queued job in this order."""
    found = (
        select(Job.id, Job.due_at, Job.priority, Job.created_at)
        .where(Job.client_id == Client.id, in_state(State.queued))
        .where(Job.id != all_(bindparam("passed_over", type_=ARRAY(Uuid()))))
        .order_by(*order, Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
    )
    return (found.where(Job.due_at <= func.now() + SOON) if due else found).lateral(name)


def running_jobs() -> LateralFromClause:
    """How many jobs of the client run, as `jobs`."""
    running = select(func.count().label("jobs")).where(Job.client_id == Client.id, in_state(State.running))
    return running.lateral("running")


def may_run() -> ColumnElement[int]:
    """How many jobs of the client may run at a time."""
    return func.coalesce(Client.limits["running_jobs"].as_integer(), _DEFAULT_RUNNING_JOBS)


def waiting_since() -> tuple[ColumnElement[Any], ...]:
    """Sorts the client that waits longest for a turn first: who never had one, then whose last one is longest ago."""
    own = aliased(Job)
    oldest = select(func.min(own.created_at)).where(own.client_id == Client.id, in_state(State.queued, own))
    return (
        func.coalesce(Client.last_started_at, literal_column("timestamptz '-infinity'")),
        case((Client.last_started_at.is_(None), oldest.scalar_subquery())),
    )


def _next() -> Select[UUID]:
    """The best of the clients' best jobs. Within a client the order is an index's, so two rows a client are read."""
    due, other, running = _first("due", Job.due_at, due=True), _first("other", due=False), running_jobs()
    return (
        select(func.coalesce(due.c.id, other.c.id))
        .select_from(Client)
        .join(other, true())
        .outerjoin(due, true())
        .join(running, running.c.jobs < may_run())
        .order_by(
            due.c.due_at.nulls_last(),
            func.coalesce(due.c.priority, other.c.priority).desc(),
            running.c.jobs,
            *waiting_since(),
            func.coalesce(due.c.created_at, other.c.created_at),
            func.coalesce(due.c.id, other.c.id),
        )
        .limit(1)
    )


_NEXT = _next()
