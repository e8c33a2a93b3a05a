"""Which queued jobs take part in the run of a job that has just been claimed.

They are of its model, with the same settings and the same registered retain set, and have no retain pairs of their own:
so one training serves all. Who is due first comes first, whoever's client it is.

A job is proven once every guard has let it pass. Of each client at most one unproven job takes part, the claimed one
counted. Only a run that holds no other client's job may hold more of them: they can hold up nobody else. And none of
another client takes part that is larger than the claimed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, not_, or_, select, true, union_all
from sqlalchemy.orm import Session

from jobs.queueing import turns
from jobs.states import Kind, State
from jobs.tables import Client, Job

_SMALL = 20  # pairs of a request about one person; the fewest steps of a run are as many for less


def companions(s: Session, run: Job, most: int) -> Sequence[Job]:
    """Up to `most` queued jobs that may take part in the claimed job's run. Their rows are locked."""
    if most <= 0 or not _may_be_shared(run):
        return ()
    found = s.scalars(_best(run, most, own=False)).all()
    if all(job.client_id == run.client_id for job in found):
        return s.scalars(_best(run, most, own=True)).all()
    return found


def _most_pairs(run: Job) -> int:
    """Another client's job is no larger, so the run takes no longer than if they had come one after the other."""
    return max(run.forget_pairs, _SMALL)


def _may_be_shared(run: Job) -> bool:
    return run.kind is Kind.unlearn and run.retain_pairs is None and not run.runs_alone


def _best(run: Job, most: int, *, own: bool) -> Select[Job]:
    """The first of those that may take part: proven ones, and of each client one that isn't, the claimed one counted.

    own: of the run's own client alone, however many aren't proven. Within a client the order is an index's.
    """
    joinable = select(Job.id).where(Job.client_id == Client.id, *_joinable(run)).correlate(Client)
    unproven = joinable.where(not_(Job.proven))
    if not own and not run.proven:
        unproven = unproven.where(Client.id != run.client_id)
    if not own:
        joinable, unproven = (
            each.where(or_(Client.id == run.client_id, Job.forget_pairs <= _most_pairs(run)))
            for each in (joinable, unproven)
        )
    parts = [(unproven, most if own else 1), (joinable.where(Job.proven), most)]
    firsts = [part.order_by(*_order()).limit(limit).subquery() for part, limit in parts]
    ids = union_all(*(select(first.c.id) for first in firsts)).lateral()
    of_client = Client.id == run.client_id if own else true()
    return (
        select(Job)
        .select_from(Client)
        .join(ids, true())
        .join(Job, Job.id == ids.c.id)
        .where(turns.most_running() > 0, of_client)
        .order_by(*_order())
        .limit(most)
        .with_for_update(skip_locked=True, of=Job)
    )


def _order() -> tuple[Any, ...]:
    return (Job.due_at, Job.priority.desc(), Job.created_at, Job.id)  # without a due date last


def _joinable(run: Job) -> tuple[ColumnElement[bool], ...]:
    """Which jobs one training serves together with the claimed one."""
    return (
        turns.in_state(State.queued),
        turns.of_kind(Kind.unlearn, Job),
        Job.retain_pairs.is_(None),
        not_(Job.runs_alone),
        Job.model == run.model,
        Job.line == run.line,
        Job.retain_set.is_(None) if run.retain_set is None else Job.retain_set == run.retain_set,
        Job.config == run.config,
    )
