"""Which queued job comes next: due soon, then priority, then the clients' turns, then age.

A job whose run another client's job broke goes before all of them (`jobs.parting`). Of a client there is one at most;
among clients they take turns.

A turn is as long as its attempt. A client's moves on to the moment of its attempt's end plus the attempt's length, so
it waits while others run as long as it did. Several attempts at a time add up. It never moves back, and no idle time is
saved up.

A client's jobs go by their deadlines while fewer than its `urgent_jobs_per_day` have done so within a day, and while no
long attempt has put its turn into the future. Else they take turns as if they had none. The day begins with the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Interval,
    Select,
    SelectBase,
    Text,
    Uuid,
    all_,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.selectable import LateralFromClause

from jobs.clients.limits import ClientLimits
from jobs.states import Kind, Phase, State
from jobs.tables import Client, Job, UtcDateTime

# A job whose deadline is nearer than this, or past, goes before all that have more time.
SOON = timedelta(hours=72)

_DAY = timedelta(hours=24)
_LOCK = 0x76676964  # "vgid"
# Whoever freezes while it chooses holds up all others, so Postgres gives up on it much sooner than on other work.
_LOCK_MILLISECONDS = 5000
_DEFAULTS = ClientLimits()


def in_state(state: State, of: Any = Job) -> ColumnElement[bool]:
    """Whether the job is in `state`, written out in the statement: a parameter can hide that a partial index fits."""
    written: ColumnElement[State] = literal_column(f"'{state.value}'", Job.state.type)
    return of.state == written  # type: ignore[no-any-return]


def take_turns(s: Session) -> None:
    """Makes the choice this transaction's alone until it ends. Others wait, so end it soon."""
    timeout = func.set_config("idle_in_transaction_session_timeout", str(_LOCK_MILLISECONDS), True)
    s.execute(select(timeout, func.pg_advisory_xact_lock(_LOCK)))


def next_job(s: Session, passed_over: Sequence[UUID] = (), *, gather_seconds: float = 0) -> UUID | None:
    """The queued job whose turn it is, besides those passed over. None when no job may start now.

    gather_seconds: how long a job that isn't due soon waits for others, to be run with them.
    """
    values = {"passed_over": list(passed_over), "gathered": timedelta(seconds=gather_seconds)}
    return s.scalar(_NEXT, values)


def deadline() -> ColumnElement[datetime]:
    """A due job's deadline. One before the job's creation counts as that, or an invented one would always win."""
    return func.greatest(Job.due_at, Job.created_at, type_=UtcDateTime())


def is_due(until: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether the job has a deadline up to this moment."""
    return and_(Job.due_at.is_not(None), deadline() <= until)


def due_soon(due_at: datetime | None, now: datetime) -> bool:
    """Whether a job with this deadline may go by it."""
    return due_at is not None and due_at <= now + SOON


def order_in_client(job: Job, now: datetime) -> tuple[Any, ...]:
    """Sorts jobs of one client: due soon, then priority, then age."""
    soon = job.due_at is not None and due_soon(job.due_at, now)
    due = max(job.due_at, job.created_at) if soon and job.due_at is not None else datetime.max.replace(tzinfo=UTC)
    return due, -job.priority, job.created_at, job.id


def _urgent_used() -> ColumnElement[int]:
    """How many of the client's jobs have gone by their deadline within a day."""
    return case((_day_is_over(), 0), else_=Client.urgent_starts)


def _day_is_over() -> ColumnElement[bool]:
    return or_(Client.urgent_since.is_(None), Client.urgent_since <= func.now() - _DAY)


def urgent_left() -> ColumnElement[int]:
    """How many more of the client's jobs may go by their deadline: none while others have turns before it."""
    most = func.coalesce(Client.limits["urgent_jobs_per_day"].as_integer(), _DEFAULTS.urgent_jobs_per_day)
    return case((Client.turn_at > func.now(), 0), else_=func.greatest(most - _urgent_used(), 0))


def counted_as_urgent() -> dict[str, Any]:
    """What the client's row holds once a job that is due soon has started: one more, if it went by its deadline."""
    went = urgent_left() > 0
    return {
        "urgent_since": case((and_(went, _day_is_over()), func.now()), else_=Client.urgent_since),
        "urgent_starts": case((went, _urgent_used() + 1), else_=Client.urgent_starts),
    }


def moved_on(took: timedelta) -> dict[str, Any]:
    """What the client's row holds once an attempt of this length has ended. Without a length, once one has started.

    Attempts at a time add up to as many lengths as the client may run jobs. So whoever had all workers for a day, while
    nobody else wanted them, doesn't wait for a day afterwards.
    """
    # By the clock: a transaction that has waited for its turn began before the turns that it has waited for.
    now, each = func.clock_timestamp(), literal(took, Interval())
    at_once = func.greatest(most_running(), 1)
    added_up = func.least(func.greatest(Client.turn_at, now) + each, now + at_once * each)
    return {"turn_at": func.greatest(Client.turn_at, added_up)}


def line_is_free() -> ColumnElement[bool]:
    """Whether no other job trains in the line, or is about to rebuild it. One that only measures needs no line.

    The busy lines are read once a statement: looked for job by job, a long queue of one line would be slow.
    """
    other = aliased(Job)
    training = select(_line_of(other)).where(in_state(State.running, other), not_(of_kind(Kind.evaluate, other)))
    rebuilding = select(_line_of(other)).where(in_state(State.queued, other), of_kind(Kind.rebuild, other))
    return or_(
        of_kind(Kind.evaluate, Job),
        and_(of_kind(Kind.rebuild, Job), _none_of(training)),
        and_(of_kind(Kind.unlearn, Job), _none_of(training.union(rebuilding))),
    )


def _none_of(lines: SelectBase) -> ColumnElement[bool]:
    return _line_of(Job) != all_(func.array(lines.scalar_subquery(), type_=ARRAY(Text())))


def _line_of(job: Any) -> ColumnElement[str]:
    """The line's name among those of all models: no model's name holds a slash."""
    return job.model + "/" + job.line  # type: ignore[no-any-return]


def _has_gathered() -> ColumnElement[bool]:
    """Whether the job has waited long enough for others to be run with."""
    gathered = bindparam("gathered", type_=Interval())
    return or_(not_(of_kind(Kind.unlearn, Job)), Job.runs_alone, Job.created_at <= func.now() - gathered)


def of_kind(kind: Kind, of: Any) -> ColumnElement[bool]:
    """Whether the job is of this kind, written out as in `in_state`."""
    written: ColumnElement[Kind] = literal_column(f"'{kind.value}'", Job.kind.type)
    return of.kind == written  # type: ignore[no-any-return]


def _first(name: str, *order: Any, due: bool) -> LateralFromClause:
    """The client's first queued job in this order."""
    found = (
        select(Job.id, deadline().label("deadline"), Job.priority, Job.created_at)
        .where(Job.client_id == Client.id, in_state(State.queued), line_is_free())
        .where(Job.id != all_(bindparam("passed_over", type_=ARRAY(Uuid()))))
        .order_by(*order, Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
    )
    soon = is_due(func.now() + SOON)
    found = (
        found.where(soon, urgent_left() > 0) if due else found.where(or_(func.coalesce(soon, False), _has_gathered()))
    )
    return found.lateral(name)


def _going_first() -> LateralFromClause:
    """The client's queued job that goes before all others."""
    found = (
        select(Job.id)
        .where(Job.client_id == Client.id, in_state(State.queued), Job.goes_first, line_is_free())
        .where(Job.id != all_(bindparam("passed_over", type_=ARRAY(Uuid()))))
    )
    return found.lateral("first")


def running_jobs() -> LateralFromClause:
    """How many jobs of the client run, as `jobs`. What takes part in another job's run occupies nothing."""
    own = (Job.client_id == Client.id, in_state(State.running), Job.run_of.is_(None))
    return select(func.count().label("jobs")).where(*own).lateral("running")


def most_running() -> ColumnElement[int]:
    """How many jobs of the client may run at a time."""
    return func.coalesce(Client.limits["running_jobs"].as_integer(), _DEFAULTS.running_jobs)


def leads_too_long() -> ColumnElement[bool]:
    """Whether the job has led its run for longer than its client's `run_seconds`. NULL or false for all others.

    A rebuild is the operator's own order. A run that is being packed has trained, and may only be waiting for space.
    All else counts, also a time without a database.
    """
    limit = func.coalesce(Client.limits["run_seconds"].as_integer(), _DEFAULTS.run_seconds)
    most = select(limit).where(Client.id == Job.client_id).correlate(Job).scalar_subquery()
    led = func.extract("epoch", func.now() - Job.leads_since)
    return and_(not_(of_kind(Kind.rebuild, Job)), Job.phase != Phase.packaging, led > most)


def waiting_since() -> tuple[ColumnElement[Any], ...]:
    """Sorts the client that waits longest for a turn first: who never had one, then whose last one is longest over."""
    own = aliased(Job)
    oldest = select(func.min(own.created_at)).where(own.client_id == Client.id, in_state(State.queued, own))
    return (
        func.coalesce(Client.turn_at, literal_column("timestamptz '-infinity'")),
        case((Client.turn_at.is_(None), oldest.scalar_subquery())),
    )


def _next() -> Select[UUID]:
    """The best of the clients' best jobs. Within a client the order is an index's, so three rows a client are read."""
    due, other, running = _first("due", deadline(), due=True), _first("other", due=False), running_jobs()
    first = _going_first()
    return (
        select(func.coalesce(first.c.id, due.c.id, other.c.id))
        .select_from(Client)
        .join(other, true())
        .outerjoin(due, true())
        .outerjoin(first, true())
        .join(running, running.c.jobs < most_running())
        .order_by(
            first.c.id.is_(None),
            *(case((first.c.id.is_not(None), waits)) for waits in waiting_since()),
            first.c.id,
            due.c.deadline.nulls_last(),
            func.coalesce(due.c.priority, other.c.priority).desc(),
            running.c.jobs,
            *waiting_since(),
            func.coalesce(due.c.created_at, other.c.created_at),
            func.coalesce(due.c.id, other.c.id),
        )
        .limit(1)
    )


_NEXT = _next()
