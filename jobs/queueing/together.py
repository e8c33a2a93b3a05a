"""Which queued jobs take part in the run of a job that has just been claimed.

They are of its model, with the same settings and the same registered retain set, and have no retain pairs of their own:
so one training serves all. Who is due first comes first, whoever's client it is.

A job is proven once every guard has let it pass. Of each client at most one unproven job takes part, the claimed one
counted. Only a run that holds no other client's job may hold more of them: they can hold up nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, not_, select, true, union_all
from sqlalchemy.orm import Session

from jobs.queueing import turns
from jobs.states import Kind, State
from jobs.tables import Client, Job


def companions(s: Session, run: Job, most: int) -> Sequence[Job]:
    """Up to `most` queued jobs that may take part in the claimed job's run. Their rows are locked."""
    if most <= 0 or not _may_be_shared(run):
        return ()
    found = s.scalars(_of_all_clients(run, most)).all()
    if all(job.client_id == run.client_id for job in found):
        return s.scalars(_of_own_client(run, most)).all()
    return found


def _may_be_shared(run: Job) -> bool:
    return run.kind is Kind.unlearn and run.retain_pairs is None and not run.runs_alone


def _of_all_clients(run: Job, most: int) -> Select[Job]:
    """Proven jobs of all clients, and of each one that isn't, but none of a client that has claimed one."""
    joinable = select(Job.id).where(Job.client_id == Client.id, *_joinable(run)).correlate(Client)
    unproven = joinable.where(not_(Job.proven))
    if not run.proven:
        unproven = unproven.where(Client.id != run.client_id)
    proven = joinable.where(Job.proven)
    firsts = [each.order_by(*_order()).limit(limit).subquery() for each, limit in ((unproven, 1), (proven, most))]
    ids = union_all(*(select(first.c.id) for first in firsts)).lateral()
    return _best(select(Job).select_from(Client).join(ids, true()).join(Job, Job.id == ids.c.id), most)


def _of_own_client(run: Job, most: int) -> Select[Job]:
    own = select(Job).join(Client, Client.id == Job.client_id).where(Client.id == run.client_id, *_joinable(run))
    return _best(own, most)


def _best(jobs: Select[Job], most: int) -> Select[Job]:
    best = jobs.where(turns.most_running() > 0).order_by(*_order()).limit(most)
    return best.with_for_update(skip_locked=True, of=Job)


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
        Job.retain_set.is_(None) if run.retain_set is None else Job.retain_set == run.retain_set,
        Job.config == run.config,
    )
