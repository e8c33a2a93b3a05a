"""How long a queued job is likely to wait: its place in the order of claims, and when it starts.

The place counts the queued jobs that come first as things stand: all that are due sooner or have a higher priority; of
its equals the older ones of its own client, and of every other client as many, for clients take turns. A client whose
turn comes earlier counts one more. Clients that may run no more jobs at the moment count, too.

The start assumes that every attempt that runs now is followed by one job after the other, each as long as the last jobs
of its kind took with the model in the median, and that the client's own jobs stay within its limit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Integer,
    Select,
    SmallInteger,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Session

from jobs.queueing.turns import SOON, in_state, may_run, running_jobs, waiting_since
from jobs.states import Kind, State
from jobs.tables import Client, Job, UtcDateTime

FARTHEST = 1000  # places aren't told apart beyond, so that no count reads a long queue from end to end

_LAST_JOBS = 20  # of whose durations the median is taken
_CLIENT, _ID = bindparam("client_id", type_=Uuid()), bindparam("id", type_=Uuid())
_KIND = bindparam("kind", type_=Job.kind.type)
_PRIORITY = bindparam("priority", type_=SmallInteger())
_CREATED_AT = bindparam("created_at", type_=UtcDateTime())
# The deadline of a job that is due soon. For any other the moment up to which others are.
_UNTIL = bindparam("until", type_=UtcDateTime())


class Forecast(NamedTuple):
    """A queued job's place, from 1 to FARTHEST (or farther), and its likely start, None when nothing is known of it."""

    position: int | None = None
    starts_at: datetime | None = None


def forecast(s: Session, job: Job) -> Forecast:
    """The forecast of a queued job, by one statement."""
    now = datetime.now(UTC)
    soon = job.due_at is not None and job.due_at <= now + SOON
    values = {name: getattr(job, name) for name in ("client_id", "id", "created_at", "priority", "model", "kind")}
    found = s.execute(_STATEMENTS[soon], values | {"until": job.due_at if soon else now + SOON}).one_or_none()
    if found is None:
        return Forecast()
    position, own_position, limit, median, left, own_left = found
    if position >= FARTHEST:
        return Forecast(FARTHEST)
    if not median or not left or limit == 0:
        return Forecast(position)
    own_slots = ([0.0] * limit + sorted(own_left or []))[-limit:]
    seconds = max(_seconds_until(position, median, left), _seconds_until(own_position, median, own_slots))
    return Forecast(position, now + timedelta(seconds=seconds))


def _seconds_until(place: int, each: float, left: Sequence[float]) -> int:
    """When the job at this place starts. Slots get free after `left` seconds, and then again after `each` seconds."""

    def started(seconds: int) -> int:
        return sum(int((seconds - first) // each) + 1 for first in left if first <= seconds)

    return bisect_left(range(ceil(min(left) + place * each) + 1), place, key=started)


def _count(*conditions: Any) -> ColumnElement[int]:
    """How many queued jobs of the client these hold for."""
    found = select(Job.id).where(Job.client_id == Client.id, in_state(State.queued), *conditions).correlate(Client)
    return select(func.count()).select_from(found.limit(FARTHEST).subquery()).scalar_subquery()


def _standings(*, soon: bool) -> CTE:
    """For each client how many jobs come before this one in any case, how many are its equals, and the turn."""
    sooner = Job.due_at < _UNTIL if soon else Job.due_at <= _UNTIL
    equally = Job.due_at == _UNTIL if soon else or_(Job.due_at.is_(None), Job.due_at > _UNTIL)
    equals = (equally, Job.priority == _PRIORITY)
    older = tuple_(Job.created_at, Job.id) < tuple_(_CREATED_AT, _ID)
    running, (last_turn, oldest) = running_jobs(), waiting_since()
    return (
        select(
            Client.id,
            may_run().label("may_run"),
            (_count(sooner) + _count(equally, Job.priority > _PRIORITY)).label("before"),
            case((Client.id == _CLIENT, _count(*equals, older)), else_=_count(*equals)).label("equals"),
            running.c.jobs.label("running"),
            last_turn.label("last_turn"),
            oldest.label("oldest"),
        )
        .select_from(Client)
        .join(running, true())
        .cte("standings")
    )


def _statement(*, soon: bool) -> Select[Any]:
    """Position, position among the client's own, its limit, median duration, seconds left of attempts and of own."""
    every = _standings(soon=soon)
    own = every.alias("own")

    def turn(of: Any) -> ColumnElement[Any]:
        return tuple_(of.c.running, of.c.last_turn, of.c.oldest)

    extra = case((and_(every.c.equals > own.c.equals, turn(every) < turn(own)), 1), else_=0)
    equals = case((every.c.id == own.c.id, own.c.equals), else_=func.least(every.c.equals, own.c.equals) + extra)
    position = select(1 + cast(func.sum(every.c.before + equals), Integer)).correlate(own).scalar_subquery()
    median = _median().cte("median")
    left = _left(select(median.c.seconds).scalar_subquery())
    return (
        select(position, 1 + own.c.before + own.c.equals, own.c.may_run, median.c.seconds, left.c.all, left.c.own)
        .select_from(own)
        .where(own.c.id == _CLIENT)
        .join(median, true())
        .join(left, true())
    )


def _median() -> Select[Any]:
    """How many seconds the last jobs of the kind and model took from first start to end. NULL if there are none."""
    took = select(_seconds(Job.finished_at - Job.started_at).label("seconds"))
    of_model = took.where(in_state(State.succeeded), Job.model == bindparam("model"), Job.kind == _KIND)
    durations = of_model.order_by(Job.finished_at.desc()).limit(_LAST_JOBS).subquery()
    return select(func.percentile_cont(0.5).within_group(durations.c.seconds).label("seconds"))


def _seconds(span: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", span), Double)


def _left(median: ColumnElement[float]) -> CTE:
    """In how many seconds the attempts that run now are likely to end: by their own estimate, else by the median."""
    by_median = _seconds(Job.started_at - func.now()) + median
    estimated = _seconds(Job.estimated_finish_at - func.now())
    seconds = func.array_agg(func.greatest(func.coalesce(estimated, by_median), 0.0))
    running = select(seconds.label("all"), seconds.filter(Job.client_id == _CLIENT).label("own"))
    return running.where(in_state(State.running), Job.lease_expires_at > func.now()).cte("left_of_attempts")


def usual_seconds(s: Session, model: str) -> float | None:
    """How long the model's last forgetting took from its first start, in the median. None if there was none."""
    seconds: float | None = s.scalar(_MEDIAN, {"model": model, "kind": Kind.unlearn})
    return seconds


_MEDIAN = _median()
_STATEMENTS = {soon: _statement(soon=soon) for soon in (False, True)}
