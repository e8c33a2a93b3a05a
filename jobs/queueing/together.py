"""Which queued jobs take part in the run of a job that has just been claimed.

They are of its model, with the same settings and the same registered retain set, and have no retain pairs of their own:
so one training serves all. Who is due first comes first, whoever's client it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, not_, select
from sqlalchemy.orm import Session

from jobs.queueing import turns
from jobs.states import Kind, State
from jobs.tables import Client, Job


def companions(s: Session, run: Job, most: int) -> Sequence[Job]:
    """Up to `most` queued jobs that may take part in the claimed job's run. Their rows are locked."""
    if most <= 0 or not _may_be_shared(run):
        return ()
    same_set = Job.retain_set.is_(None) if run.retain_set is None else Job.retain_set == run.retain_set
    found = (
        select(Job)
        .join(Client, Client.id == Job.client_id)
        .where(turns.in_state(State.queued), *_joinable(), turns.most_running() > 0)
        .where(Job.model == run.model, Job.line == run.line, same_set, Job.config == run.config)
        .order_by(Job.due_at, Job.priority.desc(), Job.created_at, Job.id)  # without a due date last
        .limit(most)
        .with_for_update(skip_locked=True, of=Job)
    )
    return s.scalars(found).all()


def _may_be_shared(run: Job) -> bool:
    return run.kind is Kind.unlearn and run.retain_pairs is None and not run.runs_alone


def _joinable() -> tuple[ColumnElement[bool], ...]:
    return (turns.of_kind(Kind.unlearn, Job), Job.retain_pairs.is_(None), not_(Job.runs_alone))
