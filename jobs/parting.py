"""How a run of several jobs loses some of them, or comes apart, so that nobody pays for another client's fault.

Callers have locked the run's rows (`jobs.claims.lock_run`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.queueing import turns
from jobs.states import State
from jobs.tables import Job


class Refusal(NamedTuple):
    """Why a job can't be run. error_type: a slug. detail: shown to the client; holds no personal data."""

    error_type: str
    detail: str


def set_apart(s: Session, jobs: Sequence[Job], refused: Mapping[UUID, Refusal]) -> list[Job]:
    """Ends those jobs as failed, each for its own reason. The others go on as one run, under the same token.

    Each refused job uses a turn of its client. Returns the others, the run's first one first.
    """
    now = transitions.database_now(s)
    found = [job for job in jobs if job.id in refused]
    _charge(s, jobs, found, now)
    for job in found:
        transitions.fail(s, job, now, *refused[job.id])
    s.flush()  # a line has one first job at any moment
    left = [job for job in jobs if job.id not in refused]
    if left and left[0].run_of is not None:
        transitions.lead(left[0], now)
        for job in left[1:]:
            job.run_of = left[0].id
        s.flush()
    return left


def take_apart(s: Session, jobs: Sequence[Job], missed: Collection[UUID] = ()) -> State:
    """Ends a run without a result: all its jobs are queued again, but those that were cancelled.

    missed: whose fault it is, beside those that were cancelled. They use a turn of their clients, and run alone from
    now on. So does each job whose run another client's broke. Unless its own client's did, too, the first of these of
    each client goes first, if no other job of the client does. Jobs whose run only their own client's broke find each
    other again. If it is nobody's known fault, each runs alone. The attempt doesn't count. Returns the state of the
    first.
    """
    now = transitions.database_now(s)
    at_fault = [job for job in jobs if job.id in missed or job.cancel_requested_at is not None]
    _charge(s, jobs, at_fault, now)
    blamed, faulty = {job.client_id for job in at_fault}, {job.id for job in at_fault}
    innocent = [job for job in jobs if blamed and job.client_id not in blamed]
    first = _one_of_each_client(s, innocent, now)
    for job in jobs:
        if not blamed and len(jobs) > 1:
            part_from_unknown(job)
        elif job.id in faulty or blamed - {job.client_id}:
            job.runs_alone = True
        job.goes_first = job.id in first
        job.attempt -= 1
        transitions.requeue_or_end(s, job, now, job.attempt + 1, "run_parted")
    return jobs[0].state


def part_from_unknown(job: Job) -> None:
    """Lets the job run alone after nobody's known fault, so that whoever did it takes nobody along."""
    job.runs_alone, job.goes_first = True, False


def _one_of_each_client(s: Session, jobs: Sequence[Job], now: datetime) -> set[UUID]:
    """The first of each client's jobs, without the clients that have a job that goes first. Their rows are locked."""
    have = select(Job.client_id).where(Job.goes_first, or_(turns.in_state(State.queued), turns.in_state(State.running)))
    passed_over = set(s.scalars(have.where(Job.client_id.in_({job.client_id for job in jobs}))))
    first: dict[UUID, UUID] = {}
    for job in sorted(jobs, key=lambda job: turns.order_in_client(job, now)):
        first.setdefault(job.client_id, job.id)
    return {job_id for client_id, job_id in first.items() if client_id not in passed_over}


def _charge(s: Session, jobs: Sequence[Job], at_fault: Sequence[Job], now: datetime) -> None:
    """Uses a turn of each one's client, as long as the run was; an urgent one, too, of who joined. No other pays."""
    transitions.lock_clients(s, jobs)
    took = transitions.led(jobs[0], now)
    for job in at_fault:
        transitions.use_turn(s, job, now, by_deadline=job.run_of is not None, took=took)
    if at_fault:
        transitions.lead(jobs[0], now)  # what it has led is paid for
