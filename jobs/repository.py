"""The queries about jobs. Those that a client asks filter by the client's id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, bindparam, cast, func, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.states import ENDED, OPEN, Kind, State
from jobs.tables import Artifact, Job, JobEvent, JobEvidence, JobMetric, MetricStage

# The most frequent statements are built once: building one takes about as long as running it.
_JOB = select(Job).where(Job.client_id == bindparam("client_id"), Job.id == bindparam("job_id"))
_METRICS = (
    select(*(JobMetric.__table__.c[name] for name in ("stage", "split", "name", "value", "pairs")))
    .where(JobMetric.job_id == bindparam("job_id"))
    .order_by(JobMetric.split, JobMetric.name, JobMetric.stage)
)
_EVENTS = (
    select(JobEvent)
    .where(JobEvent.job_id == bindparam("job_id"), JobEvent.id > bindparam("after_id"))
    .order_by(JobEvent.id)
    .limit(bindparam("most"))
)


class JobEnded(Exception):
    """The job has ended in `state`, so it can't be cancelled."""

    def __init__(self, state: State) -> None:
        super().__init__(f"the job has {state} already" if state is not State.cancelled else "the job is cancelled")
        self.state = state


class Measurement(NamedTuple):
    """One measured number of a job."""

    stage: MetricStage
    split: str
    name: str
    value: float
    pairs: int


class Adapter(NamedTuple):
    """What a job's training has left. sha256: of the artifact; None as long as the job has none."""

    model: str
    sha256: str | None


class Waiting(NamedTuple):
    """A client's queued jobs, their pairs (those of probes, too) and their training steps."""

    jobs: int
    pairs: int
    steps: int


def try_idempotency_lock(s: Session, client_id: UUID, key: str) -> bool:
    """Reserves the key for this transaction. False while another transaction of the same client holds it."""
    digest = hashlib.sha256(b"vgid/idempotency/" + client_id.bytes + key.encode()).digest()
    number = int.from_bytes(digest[:8], "big", signed=True)
    return bool(s.execute(select(func.pg_try_advisory_xact_lock(number))).scalar_one())


def find_by_idempotency_key(s: Session, client_id: UUID, key: str) -> Job | None:
    """The client's job that was submitted with this key, or None."""
    return s.scalar(select(Job).where(Job.client_id == client_id, Job.idempotency_key == key))


def lock_waiting(s: Session, client_id: UUID) -> Waiting:
    """What waits of the client. Until the transaction ends, no other one gets this lock for this client."""
    key = int.from_bytes(hashlib.sha256(b"vgid/waiting/" + client_id.bytes).digest()[:8], "big", signed=True)
    s.execute(select(func.pg_advisory_xact_lock(key)))
    return waiting_of(s, client_id)


def waiting_of(s: Session, client_id: UUID) -> Waiting:
    """What waits of the client."""
    of_probe = func.jsonb_each_text(Job.probes).table_valued("key", "value")
    of_probes = select(func.coalesce(func.sum(cast(of_probe.c.value, Integer)), 0)).scalar_subquery()
    pairs = Job.forget_pairs + func.coalesce(Job.retain_pairs, 0) + of_probes
    totals = select(func.count(), func.coalesce(func.sum(pairs), 0), func.coalesce(func.sum(Job.planned_steps), 0))
    return Waiting(*s.execute(totals.where(Job.client_id == client_id, Job.state == State.queued)).one())


def submit(s: Session, job: Job) -> None:
    """Adds a queued job. Its inputs are stored already, encrypted with the key that the row holds wrapped.

    Wake a worker after the commit. If that fails, the reaper does it later.
    """
    s.add(job)
    s.flush()
    transitions.add_event(s, job.id, "state", {"state": State.queued.value, "attempt": 0})


def get_job(s: Session, client_id: UUID, job_id: UUID) -> Job | None:
    """The client's job, or None."""
    return s.scalar(_JOB, {"client_id": client_id, "job_id": job_id})


def adapter_of(s: Session, client_id: UUID, job_id: UUID) -> Adapter | None:
    """The adapter of the client's job. None if the client has no such job that forgets."""
    found = select(Job.model, Artifact.sha256).outerjoin(Artifact, Artifact.job_id == Job.id)
    own = found.where(Job.client_id == client_id, Job.id == job_id, Job.kind == Kind.unlearn)
    row = s.execute(own).one_or_none()
    return None if row is None else Adapter(*row)


def evidence_of(s: Session, job_id: UUID) -> dict[str, Any] | None:
    """What the audits of the job found, or None."""
    return s.scalar(select(JobEvidence.document).where(JobEvidence.job_id == job_id))


def request_cancel(s: Session, client_id: UUID, job_id: UUID, kind: Kind = Kind.unlearn) -> Job | None:
    """Cancels a queued job at once, and asks the worker to stop a running one. Asking again changes nothing.

    Returns None for an unknown job, or one of another kind. If the job comes back cancelled, delete its inputs after
    the commit. Raises JobEnded when it has succeeded or failed.
    """
    job = s.scalar(
        select(Job).where(Job.client_id == client_id, Job.id == job_id, Job.kind == kind).with_for_update(),
        execution_options={"populate_existing": True},
    )
    if job is None or job.state is State.cancelled:
        return job
    if job.state in ENDED:
        raise JobEnded(job.state)
    now = transitions.database_now(s)
    job.cancel_requested_at = job.cancel_requested_at or now
    if job.state is State.queued:
        transitions.end(s, job, State.cancelled, now)
    s.flush()
    return job


def events_after(s: Session, job_id: UUID, after_id: int, limit: int) -> Sequence[JobEvent]:
    """At most `limit` events with an id above `after_id`, oldest first. 0 starts at the first event."""
    return s.scalars(_EVENTS, {"job_id": job_id, "after_id": after_id, "most": limit}).all()


def metrics_of(s: Session, job_id: UUID) -> list[Measurement]:
    """The latest attempt's measurements, ordered by split, name and stage."""
    return [Measurement(*row) for row in s.execute(_METRICS, {"job_id": job_id})]


def select_open(s: Session, job_ids: Sequence[UUID]) -> set[UUID]:
    """The ids among these whose jobs haven't ended."""
    return set(s.scalars(select(Job.id).where(Job.id.in_(job_ids), Job.state.in_(OPEN))))


def select_ended(s: Session, job_ids: Sequence[UUID]) -> set[UUID]:
    """The ids among these whose jobs have ended. An id that this database doesn't know is neither open nor ended."""
    return set(s.scalars(select(Job.id).where(Job.id.in_(job_ids), Job.state.in_(ENDED))))


def mark_inputs_deleted(s: Session, job_id: UUID) -> None:
    """Records that the job's uploads are deleted. A second call changes nothing."""
    job = s.scalar(select(Job).where(Job.id == job_id, Job.inputs_deleted_at.is_(None)).with_for_update())
    if job is not None:
        job.inputs_deleted_at = transitions.database_now(s)
