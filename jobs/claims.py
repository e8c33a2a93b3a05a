"""What an attempt does with its job. Every write checks the attempt's token, so a superseded attempt can't write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.lines import releases
from jobs.lines.releases import NewRelease
from jobs.queueing import turns
from jobs.states import Phase, State
from jobs.tables import Artifact, Job, JobEvidence, JobMetric, MetricStage
from vgid_core.progress import Progress

_PROGRESS_INTERVAL = timedelta(seconds=1)
_SLUG = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds as long as it renews the lease, and the token that proves it."""

    job: Job
    token: UUID


@dataclass(frozen=True)
class Heartbeat:
    """The answer to a heartbeat.

    held: whether the token still holds the job. stalled_for: seconds since the last progress, which was in `phase`.
    """

    held: bool
    phase: Phase | None = None
    cancel_requested: bool = False
    stalled_for: float = 0.0


@dataclass(frozen=True)
class MetricRow:
    """One measured number of one split. `pairs` says over how many pairs."""

    split: str
    name: str
    value: float
    pairs: int


@dataclass(frozen=True)
class NewArtifact:
    """A stored artifact, as `BlobStore.put_artifact` returned it. `files` lists {name, sha256, size}.

    evidence: `vgid_core.evaluation.evidence.Evidence.as_json`; None if the run had no audits. release: what it is in
    the model's line.
    """

    sha256: str
    size_bytes: int
    files: list[dict[str, Any]]
    manifest: dict[str, Any]
    evidence: dict[str, Any] | None
    release: NewRelease


def claim_next(s: Session, worker: str, lease_seconds: float) -> Claim | None:
    """Claims the job whose turn it is (`jobs.queueing.turns`). None when no job may start now.

    It waits while another worker chooses, so that both see the same running jobs. Commit at once.
    """
    turns.take_turns(s)
    passed_over: list[UUID] = []
    while (job_id := turns.next_job(s, passed_over)) is not None:
        found = claim(s, job_id, worker, lease_seconds)
        if found is not None:
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


def heartbeat(s: Session, job_id: UUID, token: UUID, lease_seconds: float) -> Heartbeat:
    """Renews the lease if the token still holds the job. The database's clock counts."""
    row = s.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempt_token == token)
        .values(lease_expires_at=func.now() + timedelta(seconds=lease_seconds), updated_at=Job.updated_at)
        .returning(Job.phase, Job.cancel_requested_at, func.extract("epoch", func.now() - Job.last_progress_at))
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        return Heartbeat(held=False)
    return Heartbeat(held=True, phase=row[0], cancel_requested=row[1] is not None, stalled_for=float(row[2]))


def report(s: Session, job_id: UUID, token: UUID, progress: Progress) -> bool:
    """Records progress: every change of phase, and at most one report a second within a phase.

    False when the token no longer holds the job.
    """
    job = _lock_held_job(s, job_id, token)
    if job is None:
        return False
    now = transitions.database_now(s)
    phase_changed = progress.phase != job.phase
    if not phase_changed and job.last_progress_at is not None and now - job.last_progress_at < _PROGRESS_INTERVAL:
        return True
    _copy_progress(progress, job, now)
    if phase_changed:
        transitions.add_event(s, job_id, "phase", {"phase": progress.phase.value, "attempt": job.attempt})
    transitions.add_event(s, job_id, "progress", _progress_event(job))
    return True


def save_metrics(s: Session, job_id: UUID, token: UUID, stage: MetricStage, rows: Sequence[MetricRow]) -> bool:
    """Replaces the job's metrics of this stage. 'before' is an attempt's first stage, so it clears both stages.

    False when the token no longer holds the job.
    """
    job = _lock_held_job(s, job_id, token)
    if job is None:
        return False
    outdated = delete(JobMetric).where(JobMetric.job_id == job_id)
    s.execute(outdated if stage == "before" else outdated.where(JobMetric.stage == stage))
    values = [{"split": row.split, "name": row.name, "value": row.value, "pairs": row.pairs} for row in rows]
    s.add_all(JobMetric(job_id=job_id, stage=stage, **value) for value in values)
    transitions.add_event(s, job_id, "metrics", {"stage": stage, "attempt": job.attempt, "metrics": values})
    s.flush()
    return True


def finish(s: Session, job_id: UUID, token: UUID, artifact: NewArtifact, stop_reason: str) -> State | None:
    """Ends the job with its artifact: as succeeded, or as failed if the evidence's verdict misses a target.

    Its adapter becomes the model's current release if the verdict passes. If a cancellation was requested before, it
    ends as cancelled and without the artifact. Returns the state in which it ended, or None when the token no longer
    holds the job. Raises ParentSuperseded, with nothing written, if it didn't start from the current release.
    """
    job = _lock_held_job(s, job_id, token)
    if job is None:
        return None
    now = transitions.database_now(s)
    if job.cancel_requested_at is not None:
        return transitions.end(s, job, State.cancelled, now)
    before = releases.lock_parent(s, job.model, artifact.release)
    s.add(
        Artifact(
            job_id=job_id,
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            files=artifact.files,
            manifest=artifact.manifest,
        )
    )
    job.progress = 1.0
    job.stop_reason = stop_reason
    if artifact.evidence is None:
        state = transitions.end(s, job, State.succeeded, now)
        drift = None
    else:
        state = _end_with_evidence(s, job, now, artifact.evidence)
        drift = releases.drift_of(artifact.evidence)
    passed = state is State.succeeded and artifact.evidence is not None
    releases.add(s, job, artifact.release, before, now, drift, passed=passed)
    return state


def finish_evaluation(s: Session, job_id: UUID, token: UUID, evidence: Mapping[str, Any]) -> State | None:
    """Ends an evaluation with its evidence as succeeded, whatever the verdict; else as `finish` does."""
    job = _lock_held_job(s, job_id, token)
    if job is None:
        return None
    now = transitions.database_now(s)
    if job.cancel_requested_at is not None:
        return transitions.end(s, job, State.cancelled, now)
    job.progress = 1.0
    return _end_with_evidence(s, job, now, evidence)


def _end_with_evidence(s: Session, job: Job, now: datetime, evidence: Mapping[str, Any]) -> State:
    s.add(JobEvidence(job_id=job.id, document=dict(evidence)))
    return transitions.end_by_verdict(s, job, now, evidence)


def fail(s: Session, job_id: UUID, token: UUID, error_type: str, error_detail: str) -> State | None:
    """Ends the job as failed, for an error that another attempt would meet again.

    error_type: a stable slug. error_detail: shown to the client; must hold no personal data.
    Returns the state in which it ended, or None when the token no longer holds the job. Raises ValueError for a
    malformed slug.
    """
    if not _SLUG.fullmatch(error_type):
        raise ValueError("error_type must be a slug")
    job = _lock_held_job(s, job_id, token)
    return None if job is None else transitions.fail(s, job, transitions.database_now(s), error_type, error_detail)


def cancelled(s: Session, job_id: UUID, token: UUID) -> State | None:
    """Ends the job as cancelled, after its run was stopped. None when the token no longer holds the job."""
    job = _lock_held_job(s, job_id, token)
    return None if job is None else transitions.end(s, job, State.cancelled, transitions.database_now(s))


def release(s: Session, job_id: UUID, token: UUID, *, max_attempts: int, refund: bool, reason: str) -> State | None:
    """Ends the attempt without a result. The job is queued again, cancelled on request, or failed after its last one.

    refund: doesn't count the attempt, which ended by no fault of the job's. reason: a stable slug for the history.
    Returns the job's new state, or None when the token no longer holds the job. After `queued`, wake a worker once the
    transaction has committed. Raises ValueError for a malformed slug.
    """
    if not _SLUG.fullmatch(reason):
        raise ValueError("reason must be a slug")
    job = _lock_held_job(s, job_id, token)
    if job is None:
        return None
    if refund:
        job.attempt -= 1
    return transitions.requeue_or_end(s, job, transitions.database_now(s), max_attempts, reason)


def _lock_held_job(s: Session, job_id: UUID, token: UUID) -> Job | None:
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
