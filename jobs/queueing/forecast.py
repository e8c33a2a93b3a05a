"""How long a queued job is likely to wait: its place in the order of claims, and when it starts.

The place counts the queued jobs that come first as things stand: all that are due sooner or have a higher priority; of
its equals the older ones of its own client, and of every other client as many, for clients take turns. A client whose
turn comes earlier counts one more; if the other's last runs were long, as many as fit in, each as long as the last jobs
took. Clients that may run no more jobs at the moment count, too; those that may never run one don't. Of each client as
many jobs go by their deadline as it has left of that (`jobs.queueing.turns`). Jobs that go first, since another
client's job broke their run, come before all, in the order of the clients' turns.

The start assumes that every attempt that runs now is followed by one job after the other, each as long as the last jobs
of its kind took with the model in the median, and that the client's own jobs stay within its limit. While nothing runs,
the next job starts now. A job that trains also waits for all that stand before it in its model's line, one after the
other, however many workers there are. Jobs of other lines count as if they only waited for workers, so a job may start
sooner than foretold. So may a request that is run together with one before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Integer,
    Row,
    Select,
    SmallInteger,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Session

from jobs.queueing.turns import (
    SOON,
    deadline,
    due_soon,
    in_state,
    is_due,
    most_running,
    of_kind,
    running_jobs,
    urgent_left,
    waiting_since,
)
from jobs.states import Kind, State
from jobs.tables import Client, Job, UtcDateTime

FARTHEST = 1000  # places aren't told apart beyond, so that no count reads a long queue from end to end

_LAST_JOBS = 20  # of whose durations the median is taken
_CLIENT, _ID = bindparam("client_id", type_=Uuid()), bindparam("id", type_=Uuid())
_KIND = bindparam("kind", type_=Job.kind.type)
_PRIORITY = bindparam("priority", type_=SmallInteger())
_CREATED_AT = bindparam("created_at", type_=UtcDateTime())
# The deadline of a job that goes by it. For any other the moment up to which others do.
_UNTIL = bindparam("until", type_=UtcDateTime())
_By = Literal["first", "deadline", "turn"]
_Condition = Callable[[Any], ColumnElement[bool]]  # on a job's columns


class Forecast(NamedTuple):
    """A queued job's place, from 1 to FARTHEST (or farther), and its likely start, None when nothing is known of it.

    rebuild: whether it waits until its model's line is rebuilt.
    """

    position: int | None = None
    starts_at: datetime | None = None
    rebuild: bool = False


def forecast(s: Session, job: Job) -> Forecast:
    """The forecast of a queued job."""
    if job.kind is Kind.unlearn and s.scalar(_REBUILDING, {"model": job.model, "line": job.line}):
        return _place(s, job)._replace(rebuild=True, starts_at=None)
    return _place(s, job)


def _place(s: Session, job: Job) -> Forecast:
    now = datetime.now(UTC)
    found = _find(s, job, now, line=False)
    if found is None:
        return Forecast()
    if found.position >= FARTHEST:
        return Forecast(FARTHEST)
    if not found.median or found.limit == 0:
        return Forecast(found.position)
    left = found.left or [0.0]
    own_slots = ([0.0] * found.limit + sorted(found.own_left or []))[-found.limit :]
    waits = [(found.position, left), (found.own_position, own_slots)]
    trains_beside_others = job.kind is Kind.unlearn and len(left) > 1  # else all jobs run one after the other anyway
    if trains_beside_others and (in_line := _find(s, job, now, line=True)) is not None:
        waits.append((in_line.position, in_line.left or [min(left)]))
    seconds = max(_seconds_until(place, found.median, slots) for place, slots in waits)
    return Forecast(found.position, now + timedelta(seconds=seconds))


def _find(s: Session, job: Job, now: datetime, *, line: bool) -> Row[Any] | None:
    """A row of `_statement`, by one statement; by two if the job is due and its client's right is used up."""
    values = {
        name: getattr(job, name) for name in ("client_id", "id", "created_at", "priority", "model", "line", "kind")
    }
    found = None
    if job.goes_first:
        return s.execute(_STATEMENTS["first", line], values).one_or_none()
    if job.due_at is not None and due_soon(job.due_at, now):
        until = max(job.due_at, job.created_at)
        found = s.execute(_STATEMENTS["deadline", line], values | {"until": until}).one_or_none()
    return found or s.execute(_STATEMENTS["turn", line], values | {"until": now + SOON}).one_or_none()


def _seconds_until(place: int, each: float, left: Sequence[float]) -> int:
    """When the job at this place starts. Slots get free after `left` seconds, and then again after `each` seconds."""

    def started(seconds: int) -> int:
        return sum(int((seconds - first) // each) + 1 for first in left if first <= seconds)

    return bisect_left(range(ceil(min(left) + place * each) + 1), place, key=started)


def _queued(*, first: bool = False) -> Select[Any]:
    """The client's queued jobs, with what a place goes by. first: those that go before all others."""
    columns: list[Any] = [
        Job.id,
        Job.model,
        Job.line,
        Job.kind,
        Job.priority,
        Job.created_at,
        deadline().label("deadline"),
    ]
    which = Job.goes_first if first else not_(Job.goes_first)
    return select(*columns).where(Job.client_id == Client.id, in_state(State.queued), which).correlate(Client)


def _due() -> Select[Any]:
    """Those with a deadline, in the order in which they go by it."""
    return _queued().where(is_due(_UNTIL)).order_by(deadline(), Job.priority.desc(), Job.created_at, Job.id)


def _urgent() -> Select[Any]:
    """As many of these as the client may have go by their deadline."""
    return _due().limit(func.least(urgent_left(), FARTHEST))


def _count(jobs: Select[Any], which: _Condition | None = None, *, line: bool) -> ColumnElement[int]:
    """How many of these jobs the condition holds for. line: of those that train in the same line."""
    found = jobs.subquery()
    conditions = [] if which is None else [which(found.c)]
    if line:
        conditions.append(_same_line(found.c))
    return select(func.count()).select_from(found).where(*conditions).scalar_subquery()


def _same_line(job: Any) -> ColumnElement[bool]:
    return and_(job.model == bindparam("model"), job.line == bindparam("line"), job.kind == _KIND)


def _standings(by: _By, *, line: bool) -> CTE:
    """For each client how many jobs come before this one in any case, how many are its equals, and the turn."""
    none = literal(0)
    first = _count(_queued(first=True), line=line)  # one at most
    counts = {"first": lambda **_: (none, first, none), "deadline": _due_counts, "turn": _counts_in_turn}
    before, equals, own_equals = counts[by](line=line)
    running, (last_turn, oldest) = running_jobs(), waiting_since()
    return (
        select(
            Client.id,
            most_running().label("most_running"),
            urgent_left().label("urgent_left"),
            (none if by == "first" else first).label("first"),
            before.label("before"),
            case((Client.id == _CLIENT, own_equals), else_=equals).label("equals"),
            running.c.jobs.label("running"),
            last_turn.label("last_turn"),
            oldest.label("oldest"),
        )
        .select_from(Client)
        .join(running, true())
        .where(or_(most_running() > 0, Client.id == _CLIENT))
        .cte("standings")
    )


def _due_counts(*, line: bool) -> tuple[ColumnElement[int], ...]:
    """Of a job that goes by its deadline: jobs before it, its equals, and the older ones of these."""

    def before(job: Any) -> ColumnElement[bool]:
        return or_(job.deadline < _UNTIL, job.priority > _PRIORITY)

    def equal(job: Any) -> ColumnElement[bool]:
        return and_(job.deadline == _UNTIL, job.priority == _PRIORITY)

    def older(job: Any) -> ColumnElement[bool]:
        return and_(equal(job), _older(job))

    return tuple(_count(_urgent(), which, line=line) for which in (before, equal, older))


def _counts_in_turn(*, line: bool) -> tuple[ColumnElement[int], ...]:
    """The same of a job that takes turns."""
    in_turn = _queued().where(or_(Job.due_at.is_(None), deadline() > _UNTIL)).limit(FARTHEST)
    beyond = _due().offset(urgent_left()).limit(FARTHEST)  # the client's right is used up before these

    def counted(which: _Condition) -> ColumnElement[int]:
        return _count(in_turn.where(which(Job)), line=line) + _count(beyond, which, line=line)

    def higher(job: Any) -> ColumnElement[bool]:
        return job.priority > _PRIORITY  # type: ignore[no-any-return]

    def equal(job: Any) -> ColumnElement[bool]:
        return job.priority == _PRIORITY  # type: ignore[no-any-return]

    def older(job: Any) -> ColumnElement[bool]:
        return and_(equal(job), _older(job))

    return _count(_urgent(), line=line) + counted(higher), counted(equal), counted(older)


def _older(job: Any) -> ColumnElement[bool]:
    return tuple_(job.created_at, job.id) < tuple_(_CREATED_AT, _ID)


def _statement(by: _By, *, line: bool) -> Select[Any]:
    """Position, position among the client's own, its limit, median duration, seconds left of attempts and of own.

    by: what the job goes by; no row if it can't go by its deadline. line: only among jobs that train in the same line.
    """
    every = _standings(by, line=line)
    own = every.alias("own")

    median = _median().cte("median")
    seconds = select(median.c.seconds).scalar_subquery()
    left = _left(seconds, line=line)

    def turn(of: Any) -> ColumnElement[Any]:
        last = (of.c.last_turn, of.c.oldest)
        return tuple_(*last) if by == "first" else tuple_(of.c.running, *last)

    others = every.alias("others")
    sharing = select(func.count()).select_from(others).where(others.c.equals > 0, others.c.id != own.c.id)
    workers = select(func.cardinality(left.c.all)).scalar_subquery()
    apart = seconds * func.greatest(sharing.correlate(own).scalar_subquery(), 1) / func.greatest(workers, 1)

    def ahead(sooner: Any, later: Any) -> ColumnElement[int]:
        """How many jobs of the one start before the first of the other, whose last runs may have been long."""
        behind = func.greatest(later.c.last_turn, func.now()) - func.greatest(sooner.c.last_turn, func.now())
        fit_in = func.ceil((_seconds(behind) - seconds) / func.nullif(apart, 0.0))
        return cast(func.least(func.greatest(fit_in, 1), FARTHEST), Integer)

    lead = case((turn(every) < turn(own), ahead(every, own)), else_=1 - ahead(own, every))
    between = func.greatest(func.least(every.c.equals, own.c.equals + lead), 0)
    equals = case((every.c.id == own.c.id, own.c.equals), else_=between)
    position = (
        select(1 + cast(func.sum(every.c.first + every.c.before + equals), Integer)).correlate(own).scalar_subquery()
    )
    goes_by_it = own.c.before + own.c.equals < own.c.urgent_left if by == "deadline" else true()
    return (
        select(
            position.label("position"),
            (1 + own.c.first + own.c.before + own.c.equals).label("own_position"),
            own.c.most_running.label("limit"),
            median.c.seconds.label("median"),
            left.c.all.label("left"),
            left.c.own.label("own_left"),
        )
        .select_from(own)
        .where(own.c.id == _CLIENT, goes_by_it)
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


def _left(median: ColumnElement[float], *, line: bool) -> CTE:
    """In how many seconds the attempts that run now are likely to end: by their own estimate, else by the median."""
    by_median = _seconds(Job.started_at - func.now()) + median
    estimated = _seconds(Job.estimated_finish_at - func.now())
    seconds = func.array_agg(func.greatest(func.coalesce(estimated, by_median), 0.0))
    running = select(seconds.label("all"), seconds.filter(Job.client_id == _CLIENT).label("own"))
    running = running.where(in_state(State.running), Job.run_of.is_(None), Job.lease_expires_at > func.now())
    return (running.where(_same_line(Job)) if line else running).cte("left_of_attempts")


_REBUILDING = select(
    exists().where(
        Job.model == bindparam("model"),
        Job.line == bindparam("line"),
        of_kind(Kind.rebuild, Job),
        or_(in_state(State.queued), in_state(State.running)),
    )
)
_STATEMENTS = {(by, line): _statement(by, line=line) for by in get_args(_By) for line in (False, True)}
