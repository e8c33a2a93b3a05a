"""How a job's run ends: with its artifact, its evidence, or an error. Every write checks the attempt's token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobs import claims, parting, transitions
from jobs.lines import releases
from jobs.lines.releases import NewRelease
from jobs.parting import Refusal
from jobs.states import State
from jobs.tables import Artifact, Job, JobEvidence

# Targets of figures of sets that all requests of a run share. Missed by all, they are no one request's fault.
SHARED_TARGETS = frozenset({"utility_drop", "neighbour_drop"})
_TOO_LONG = "The run took longer than this client's runs may. Fewer steps or smaller batches take less."
_BUDGET_SPENT = "the line's budget of drift is spent, and an operator can rebuild it from the base"


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

    @property
    def missed(self) -> bool:
        """Whether its evidence's verdict misses a target."""
        return self.evidence is not None and not self.evidence["verdict"]["passed"]

    @property
    def missed_its_own(self) -> bool:
        """Whether it misses anything that is about its own people: all but the shared targets."""
        if self.evidence is None or not self.missed:
            return False
        verdict = self.evidence["verdict"]
        targets = {target["target"] for target in verdict["targets"] if not target["held"]}
        return bool(verdict["lacking"]) or not targets or not targets <= SHARED_TARGETS


def finish(
    s: Session,
    job_id: UUID,
    token: UUID,
    artifact: NewArtifact,
    others: Mapping[UUID, NewArtifact] = MappingProxyType({}),
) -> State | None:
    """Ends the job with its artifact: as succeeded, or as failed if the evidence's verdict misses a target.

    Its adapter becomes the model's current release if the verdict passes. If a cancellation was requested before, it
    ends as cancelled and without the artifact. others: the artifacts of the jobs that took part in its run. Unless all
    of them pass, none is kept, and the run comes apart (`jobs.parting`).

    Returns the state in which the job ended, or to which it went, or None when the token no longer holds it. Raises
    ParentSuperseded, with nothing written, if it didn't start from the current release.
    """
    jobs = claims.lock_run(s, token)
    if not jobs:
        return None
    now = transitions.database_now(s)
    if others or len(jobs) > 1:
        made = {job_id: artifact, **others}
        missed = any(found.missed for found in made.values())
        if missed or made.keys() != {job.id for job in jobs} or any(job.cancel_requested_at for job in jobs):
            return parting.take_apart(s, jobs, _at_fault(made))
        return _finish_all(s, jobs, made, now)
    if jobs[0].cancel_requested_at is not None:
        return transitions.end(s, jobs[0], State.cancelled, now)
    return _finish_all(s, jobs, {job_id: artifact}, now)


def _at_fault(made: Mapping[UUID, NewArtifact]) -> set[UUID]:
    """Whose fault it is that a run misses targets: who misses one about its own people, else who misses a shared one.

    If all miss no more than shared ones, nobody knows whose it is.
    """
    own = {job_id for job_id, found in made.items() if found.missed_its_own}
    missed = {job_id for job_id, found in made.items() if found.missed}
    return own or (missed if missed != made.keys() else set())


def _finish_all(s: Session, jobs: Sequence[Job], made: Mapping[UUID, NewArtifact], now: datetime) -> State:
    """Ends a run's jobs, each with its artifact and evidence, and adds the release of the first. Returns its state."""
    run, artifact = jobs[0], made[jobs[0].id]
    before = releases.lock_parent(s, run, artifact.release)
    states = [_finish_one(s, job, made[job.id], now) for job in jobs]
    if artifact.release.parent_id is not None and _drifted(run):
        run.error_detail = f"{run.error_detail}; {_BUDGET_SPENT}"
    passed = states[0] is State.succeeded and artifact.evidence is not None
    drift = None if artifact.evidence is None else releases.drift_of(artifact.evidence)
    new = {job.id: made[job.id].release for job in jobs}
    releases.add(s, run, new, before, now, drift, passed=passed)
    return states[0]


def _drifted(job: Job) -> bool:
    """Whether the job has failed because its line lies too far from the base."""
    missed = [] if job.verdict is None else job.verdict["missed"]
    return job.state is State.failed and any(target["target"] == "utility_drop" for target in missed)


def _finish_one(s: Session, job: Job, artifact: NewArtifact, now: datetime) -> State:
    s.add(
        Artifact(
            job_id=job.id,
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            files=artifact.files,
            manifest=artifact.manifest,
        )
    )
    job.progress = 1.0
    if artifact.evidence is None:
        return transitions.end(s, job, State.succeeded, now)
    return _end_with_evidence(s, job, now, artifact.evidence)


def finish_evaluation(s: Session, job_id: UUID, token: UUID, evidence: Mapping[str, Any]) -> State | None:
    """Ends an evaluation with its evidence as succeeded, whatever the verdict; else as `finish` does."""
    job = claims.lock_held(s, job_id, token)
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


def fail(s: Session, token: UUID, error_type: str, error_detail: str) -> State | None:
    """Ends the job as failed, for an error that another attempt would meet again.

    error_type: a stable slug. error_detail: shown to the client; must hold no personal data. A run of several comes
    apart instead, since nobody knows whose fault it is: each meets it again alone.
    Returns the job's state, or None when the token holds nothing any more. Raises ValueError for a malformed slug.
    """
    transitions.require_slug(error_type)
    jobs = claims.lock_run(s, token)
    if len(jobs) > 1:
        return parting.take_apart(s, jobs)
    return transitions.fail(s, jobs[0], transitions.database_now(s), error_type, error_detail) if jobs else None


def end_too_long(s: Session, token: UUID) -> State | None:
    """Ends a run that was stopped because it took too long. As `fail`; but it is queued again if it doesn't any more.

    That is so where whoever led it was refused while it was being stopped.
    """
    too_long = claims.too_long(s, token)
    if too_long:
        return fail(s, token, transitions.RUN_TOO_LONG, _TOO_LONG)
    return None if too_long is None else claims.cancelled(s, token)


def refuse(s: Session, token: UUID, refused: Mapping[UUID, Refusal]) -> list[UUID] | None:
    """Ends jobs of a run as failed that can't be run, before it trains. The others stay a run (`parting.set_apart`).

    Returns the others, the run's first one first, or None when the token holds nothing any more. Raises ValueError for
    a malformed slug.
    """
    for reason in refused.values():
        transitions.require_slug(reason.error_type)
    jobs = claims.lock_run(s, token)
    return [job.id for job in parting.set_apart(s, jobs, refused)] if jobs else None
