"""What an attempt does with its job. Every write checks the attempt's token, so a superseded attempt can't write.

Several jobs of one model may be run as one. They have the token in common, and stay together: what ends the attempt of
one ends that of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from jobs import parting, transitions
from jobs.queueing import together, turns
from jobs.states import Phase, State
from jobs.tables import Job, JobMetric, MetricStage
from vgid_core.progress import Progress

_PROGRESS_INTERVAL = timedelta(seconds=1)


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds as long as it renews the lease, and the token that proves it.

    The token may hold more jobs, which take part in its run (`jobs_of_run`), also after this one has ended.
    """

    job: Job
    token: UUID


@dataclass(frozen=True)
class Heartbeat:
    """The answer to a heartbeat.

    held: whether the token still holds any job. stalled_for: seconds since the last progress, which was in `phase`.
    too_long: whether the run takes longer than the client that leads it may have a worker.
    """

    held: bool
    phase: Phase | None = None
    cancel_requested: bool = False
    stalled_for: float = 0.0
    too_long: bool = False


@dataclass(frozen=True)
class MetricRow:
    """One measured number of one split. `pairs` says over how many pairs."""

    split: str
    name: str
    value: float
    pairs: int


def claim_next(
    s: Session, worker: str, lease_seconds: float, *, run_requests: int = 1, gather_seconds: float = 0
) -> Claim | None:
    """Claims the job whose turn it is (`jobs.queueing.turns`). None when no job may start now.

    run_requests: how many jobs may be run as one. gather_seconds: how long a job waits for others, unless it is due.
    It waits while another worker chooses, so that both see the same running jobs. Commit at once.
    """
    turns.take_turns(s)
    passed_over: list[UUID] = []
    while (job_id := turns.next_job(s, passed_over, gather_seconds=gather_seconds)) is not None:
        found = claim(s, job_id, worker, lease_seconds)
        if found is not None:
            now = transitions.database_now(s)
            for job in together.companions(s, found.job, run_requests - 1):
                transitions.join(s, job, found.job, now, lease_seconds)
            s.flush()
            return found
        passed_over.append(job_id)  # its client is cancelling it at this moment
    return None


def claim(s: Session, job_id: UUID, worker: str, lease_seconds: float) -> Claim | None:
    """Claims this queued job, whoever's turn it is.

    None when another worker has claimed it, when another job trains on its model, when it has ended or is unknown.
    """
    job = s.scalar(
        select(Job)
        .where(Job.id == job_id, Job.state == State.queued, turns.line_is_free())
        .with_for_update(skip_locked=True, of=Job),
        execution_options={"populate_existing": True},
    )
    if job is None:
        return None
    token = uuid4()
    transitions.start(s, job, transitions.database_now(s), worker, token, lease_seconds)
    s.flush()
    return Claim(job, token)


def held_job(s: Session, job_id: UUID, token: UUID) -> Job | None:
    """The job if the token still holds it, else None. Its row isn't locked."""
    return s.scalar(select(Job).where(Job.id == job_id, Job.attempt_token == token))


def jobs_of_run(s: Session, token: UUID) -> Sequence[Job]:
    """The jobs that the token holds, the run's first one first. Rows aren't locked."""
    return s.scalars(_in_run(token), execution_options={"populate_existing": True}).all()


def heartbeat(s: Session, token: UUID, lease_seconds: float) -> Heartbeat:
    """Renews the leases of the jobs that the token holds. The database's clock counts."""
    s.execute(_in_run(token).with_only_columns(Job.id).with_for_update())  # in the order in which a report locks them
    too_long = turns.leads_too_long().label("too_long")
    rows = s.execute(
        update(Job)
        .where(turns.in_state(State.running), Job.attempt_token == token)
        .values(lease_expires_at=func.now() + timedelta(seconds=lease_seconds), updated_at=Job.updated_at)
        .returning(
            Job.phase, Job.cancel_requested_at, func.extract("epoch", func.now() - Job.last_progress_at), too_long
        )
        .execution_options(synchronize_session=False)
    ).all()
    if not rows:
        return Heartbeat(held=False)
    phase, _, stalled_for, _ = rows[0]  # reports are about all of them
    return Heartbeat(
        held=True,
        phase=phase,
        cancel_requested=any(row.cancel_requested_at is not None for row in rows),
        stalled_for=float(stalled_for),
        too_long=any(row.too_long for row in rows),
    )


def report(s: Session, token: UUID, progress: Progress) -> bool:
    """Records the run's progress: every change of phase, and at most one report a second within a phase.

    Jobs that are trained on have passed all guards, and are proven from then on. False when the token holds no job.
    """
    jobs = lock_run(s, token)
    if not jobs:
        return False
    job = jobs[0]
    now = transitions.database_now(s)
    phase_changed = progress.phase != job.phase
    if not phase_changed and job.last_progress_at is not None and now - job.last_progress_at < _PROGRESS_INTERVAL:
        return True
    for each in jobs:
        _copy_progress(progress, each, now)
        each.proven = each.proven or progress.phase is Phase.distilling
        if phase_changed:
            transitions.add_event(s, each.id, "phase", {"phase": progress.phase.value, "attempt": each.attempt})
        transitions.add_event(s, each.id, "progress", _progress_event(each))
    return True


def save_metrics(s: Session, job_id: UUID, token: UUID, stage: MetricStage, rows: Sequence[MetricRow]) -> bool:
    """Replaces the job's metrics of this stage. 'before' is an attempt's first stage, so it clears both stages.

    False when the token no longer holds the job.
    """
    job = lock_held(s, job_id, token)
    if job is None:
        return False
    outdated = delete(JobMetric).where(JobMetric.job_id == job_id)
    s.execute(outdated if stage == "before" else outdated.where(JobMetric.stage == stage))
    values = [{"split": row.split, "name": row.name, "value": row.value, "pairs": row.pairs} for row in rows]
    s.add_all(JobMetric(job_id=job_id, stage=stage, **value) for value in values)
    transitions.add_event(s, job_id, "metrics", {"stage": stage, "attempt": job.attempt, "metrics": values})
    s.flush()
    return True


def cancelled(s: Session, token: UUID) -> State | None:
    """Ends what was cancelled, after the run was stopped. The others of the run are queued again.

    So is the last one left, if whoever was cancelled has been set apart meanwhile. Returns the state of the run's first
    job. None when the token holds no job.
    """
    jobs = lock_run(s, token)
    if len(jobs) == 1 and jobs[0].cancel_requested_at is not None:
        return transitions.end(s, jobs[0], State.cancelled, transitions.database_now(s))
    return parting.take_apart(s, jobs) if jobs else None


def too_long(s: Session, token: UUID) -> bool | None:
    """Whether the run takes longer than its first job's client may have a worker. None when the token holds no job.

    Its rows are locked: whoever led it when it was found to be too long may have been set apart meanwhile.
    """
    jobs = lock_run(s, token)
    return bool(s.scalar(select(turns.leads_too_long()).where(Job.id == jobs[0].id))) if jobs else None


def release(
    s: Session, token: UUID, *, max_attempts: int, refund: bool, reason: str, errno: str | None = None
) -> State | None:
    """Ends the attempt without a result. The job is queued again, cancelled on request, or failed after its last one.

    So are the others of its run. Unless `refund` is set, each runs alone from now on. refund: doesn't count the
    attempt, which ended by no fault of the job's. reason: a stable slug for the history; errno: the system's name for
    it, such as ENOSPC, if there is one. Returns the new state of the run's first job, or None when the token holds no
    job. After `queued`, wake a worker once the transaction has committed. Raises ValueError for a malformed slug.
    """
    transitions.require_slug(reason)
    jobs = lock_run(s, token)
    now = transitions.database_now(s)
    for job in jobs:
        job.attempt -= refund
        if not refund:
            parting.part_from_unknown(job)
        transitions.requeue_or_end(s, job, now, max_attempts, reason, errno)
    return jobs[0].state if jobs else None


def lock_run(s: Session, token: UUID) -> Sequence[Job]:
    """As `jobs_of_run`, with the rows locked."""
    return s.scalars(_in_run(token).with_for_update(), execution_options={"populate_existing": True}).all()


def _in_run(token: UUID) -> Select[Job]:
    held = select(Job).where(turns.in_state(State.running), Job.attempt_token == token)
    return held.order_by(Job.run_of.is_not(None), Job.created_at, Job.id)


def lock_held(s: Session, job_id: UUID, token: UUID) -> Job | None:
    """The job with its row locked if the token still holds it, else None."""
    return s.scalar(
        select(Job).where(Job.id == job_id, Job.attempt_token == token).with_for_update(),
        execution_options={"populate_existing": True},
    )


def _copy_progress(progress: Progress, job: Job, now: datetime) -> None:
    job.phase = progress.phase
    job.step = progress.step
    job.total_steps = progress.total_steps
    job.progress = min(max(_finite(progress.fraction) or 0.0, 0.0), 1.0)
    job.loss_forget = _finite(progress.loss_forget)
    job.loss_retain = _finite(progress.loss_retain)
    seconds_left = _finite(progress.seconds_left)
    job.estimated_finish_at = None if seconds_left is None else now + timedelta(seconds=max(seconds_left, 0.0))
    job.last_progress_at = now


def _progress_event(job: Job) -> dict[str, Any]:
    return {
        "attempt": job.attempt,
        "phase": job.phase,
        "fraction": job.progress,
        "step": job.step,
        "total_steps": job.total_steps,
        "loss_forget": job.loss_forget,
        "loss_retain": job.loss_retain,
        "estimated_finish_at": job.estimated_finish_at and job.estimated_finish_at.isoformat(),
    }


def _finite(value: float | None) -> float | None:
    """None for NaN and infinity, which JSON doesn't have. The loss of a diverged run is one of them."""
    return value if value is not None and math.isfinite(value) else None
