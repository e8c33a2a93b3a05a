"""How many jobs there are, and how long they wait: for operators, over all clients."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Float, cast, func, select
from sqlalchemy.orm import Session

from jobs.states import State
from jobs.tables import Job

_UNFINISHED = (State.queued, State.running)


class QueueTotals(NamedTuple):
    """by_state: jobs in each state, also in those without any. oldest_seconds: 0 with an empty queue."""

    by_state: dict[State, int]
    oldest_seconds: float
    overdue: int


def queue_totals(s: Session) -> QueueTotals:
    """Counts the ledger's jobs."""
    rows = s.execute(select(Job.state, func.count()).group_by(Job.state))
    by_state = dict.fromkeys(State, 0) | {state: count for state, count in rows}  # noqa: C416 - rows aren't pairs to mypy
    age = cast(func.extract("epoch", func.now() - func.min(Job.created_at)), Float)
    oldest = s.scalar(select(func.coalesce(age, 0.0)).where(Job.state == State.queued))
    overdue = s.scalar(select(func.count()).where(Job.state.in_(_UNFINISHED), Job.due_at < func.now()))
    return QueueTotals(by_state, oldest or 0.0, overdue or 0)
