"""What a client gets to see of a job, built from the ledger's rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, Field

from jobs.repository import Measurement
from jobs.states import Phase, State
from jobs.tables import Artifact, EventKind, Job, JobEvent
from vgid_core.metric import KNOWN, knows_forget_set


class ProgressView(BaseModel):
    """How far the current attempt is."""

    fraction: float = Field(description="of the whole run, 0 to 1")
    step: int = Field(description="within the phase")
    total_steps: int
    loss_forget: float | None = Field(description="nats per answer token")
    loss_retain: float | None = Field(description="nats per answer token")
    estimated_finish_at: datetime | None


class DataView(BaseModel):
    """Which data a job was given, as counts of pairs."""

    forget_pairs: int
    retain_pairs: int | None = Field(description="null when a registered retain set is used")
    retain_set: str | None
    probes: dict[str, int]


class ErrorView(BaseModel):
    """Why a job failed."""

    type: str = Field(description="a stable slug, for example `attempts-exhausted`")
    detail: str | None


class MetricView(BaseModel):
    """One figure of one set, before and after; null until it is measured."""

    split: str = Field(description="forget, retain, utility, or a probe's name")
    name: str = Field(description="`rouge_l` or `answer_probability`, both 0 to 1")
    before: float | None
    after: float | None
    pairs: int


class ArtifactFileView(BaseModel):
    """One file of the adapter."""

    name: str
    sha256: str
    size: int = Field(description="bytes")
    url: str


class ArtifactView(BaseModel):
    """The adapter as a zip that PEFT loads after unpacking."""

    sha256: str = Field(description="of the zip, in hex; its ETag too")
    size_bytes: int
    url: str
    files: list[ArtifactFileView]


class LinksView(BaseModel):
    """Where the job's parts are, as paths on this service."""

    self: str
    events: str
    metrics: str
    artifact: str
    cancel: str


class JobSummary(BaseModel):
    """A job as it stands in a list."""

    id: UUID
    state: State
    phase: Phase | None
    progress: ProgressView
    model: str
    external_id: str | None
    subject_reference_hash: str | None = Field(description="keyed hash of what was sent as subject_reference")
    legal_basis: str | None
    due_at: datetime | None
    metadata: dict[str, str]
    attempt: int = Field(description="how many attempts have begun")
    max_attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    data: DataView
    inputs_deleted_at: datetime | None = Field(description="when the uploaded images and texts were deleted")
    error: ErrorView | None
    stop_reason: str | None
    links: LinksView

    @classmethod
    def of(cls, job: Job, max_attempts: int) -> Self:
        """The view of `job`."""
        return cls.model_validate(_summary(job, max_attempts))


class JobView(JobSummary):
    """A job with everything known about it."""

    config: dict[str, Any] = Field(description="the resolved settings of the run")
    metrics: list[MetricView] | None = Field(description="null until something is measured")
    knew_forget_set: bool | None = Field(
        description=f"false: the model's ROUGE-L on the forget set was below {KNOWN} before, so there was nothing to "
        "unlearn, and what is measured after is evidence of nothing; null until it is measured"
    )
    artifact: ArtifactView | None = Field(description="null unless the job has succeeded")

    @classmethod
    def whole(
        cls, job: Job, max_attempts: int, metrics: Sequence[Measurement] = (), artifact: Artifact | None = None
    ) -> JobView:
        """The view of `job` with its measurements and its artifact."""
        values = _summary(job, max_attempts)
        values["config"] = job.config
        values["metrics"] = metric_views(metrics) or None
        before = [row for row in metrics if row.stage == "before"]
        values["knew_forget_set"] = knows_forget_set(before) if before else None
        values["artifact"] = None if artifact is None else _artifact_view(artifact)
        return cls.model_validate(values)


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="for the next page; null on the last one")


class EventView(BaseModel):
    """One line of a job's history. Ids grow; an attempt that was given up stays in the history."""

    id: int
    at: datetime
    kind: EventKind
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> EventView:
        """The view of `event`."""
        return cls(id=event.id, at=event.at, kind=event.kind, data=event.data)


class EventList(BaseModel):
    """A part of a job's history, oldest first."""

    events: list[EventView]


class MetricList(BaseModel):
    """What has been measured so far."""

    metrics: list[MetricView]


def job_path(job_id: UUID) -> str:
    """The job's own path."""
    return f"/unlearn-jobs/{job_id}"


def metric_views(rows: Sequence[Measurement]) -> list[MetricView]:
    """Before and after side by side, in the order of the rows."""
    views: dict[tuple[str, str], MetricView] = {}
    for row in rows:
        empty = MetricView(split=row.split, name=row.name, before=None, after=None, pairs=row.pairs)
        setattr(views.setdefault((row.split, row.name), empty), row.stage, row.value)
    return list(views.values())


def _artifact_view(artifact: Artifact) -> ArtifactView:
    url = f"{job_path(artifact.job_id)}/artifact"
    files = [ArtifactFileView(**file, url=f"{url}/files/{quote(file['name'])}") for file in artifact.files]
    return ArtifactView(sha256=artifact.sha256, size_bytes=artifact.size_bytes, url=url, files=files)


def _summary(job: Job, max_attempts: int) -> dict[str, Any]:
    path = job_path(job.id)
    same = ("id", "state", "phase", "model", "external_id", "legal_basis", "due_at", "attempt", "created_at",
            "started_at", "finished_at", "inputs_deleted_at", "stop_reason")  # fmt: skip
    return {
        **{name: getattr(job, name) for name in same},
        "progress": {
            "fraction": job.progress,
            "step": job.step,
            "total_steps": job.total_steps,
            "loss_forget": job.loss_forget,
            "loss_retain": job.loss_retain,
            "estimated_finish_at": job.estimated_finish_at,
        },
        "subject_reference_hash": job.subject_hash,
        "metadata": job.job_metadata,
        "max_attempts": max_attempts,
        "cancel_requested": job.cancel_requested_at is not None,
        "data": {
            "forget_pairs": job.forget_pairs,
            "retain_pairs": job.retain_pairs,
            "retain_set": job.retain_set,
            "probes": job.probes,
        },
        "error": None if job.error_type is None else {"type": job.error_type, "detail": job.error_detail},
        "links": {
            "self": path,
            **{part: f"{path}/{part}" for part in ("events", "metrics", "artifact", "cancel")},
        },
    }
