"""The shapes of what the service answers about a job, read from the ledger's rows.

A view with a field named like a column shows that column. Nothing else has to list it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.views.measured import MetricView, VerdictView, metric_views
from jobs.queueing.forecast import FARTHEST, Forecast
from jobs.repository import Measurement
from jobs.states import Kind, Phase, State
from jobs.tables import Artifact, EventKind, Job

_NO_FORECAST = Forecast()


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ProgressView(_View):
    """How far the current attempt is."""

    fraction: float = Field(validation_alias="progress", description="of the whole run, 0 to 1")
    step: int = Field(description="within the phase")
    total_steps: int
    loss_forget: float | None = Field(description="nats per answer token")
    loss_retain: float | None = Field(description="nats per answer token")
    estimated_finish_at: datetime | None


class DataView(_View):
    """The job's data, as counts of pairs."""

    forget_pairs: int
    retain_pairs: int | None = Field(description="null when a registered retain set is used")
    retain_set: str | None
    probes: dict[str, int]


class ErrorView(_View):
    """Why a job failed."""

    type: str = Field(validation_alias="error_type", description="a stable slug, for example `attempts-exhausted`")
    detail: str | None = Field(validation_alias="error_detail")


class ArtifactFileView(_View):
    """One file of the adapter."""

    name: str
    sha256: str
    size: int = Field(description="bytes")
    url: str


class ArtifactView(_View):
    """The adapter as a zip that PEFT loads after unpacking."""

    sha256: str = Field(description="of the zip, in hex; its ETag too")
    size_bytes: int
    url: str
    files: list[ArtifactFileView]


class LinksView(_View):
    """The paths of the job's parts on this service."""

    self: str
    events: str
    metrics: str
    evidence: str
    report: str | None = Field(description="null for an evaluation, which has none")
    artifact: str | None = Field(description="null for an evaluation, which leaves none")
    receipt: str
    cancel: str


class JobSummary(_View):
    """A job as an entry of a list."""

    id: UUID
    kind: Kind = Field(description="whether it forgets, or measures only")
    adapter_of: UUID | None = Field(
        description="of an evaluation: the job whose adapter is measured; null for the model alone"
    )
    release_id: UUID | None = Field(description="of an evaluation: the release that is measured")
    state: State
    phase: Phase | None
    progress: ProgressView
    model: str
    external_id: str | None
    subject_reference_hash: str | None = Field(
        validation_alias="subject_hash", description="keyed hash of what was sent as subject_reference"
    )
    legal_basis: str | None
    due_at: datetime | None
    priority: int
    metadata: dict[str, str] = Field(validation_alias="job_metadata")
    attempt: int = Field(description="how many attempts have begun")
    max_attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    data: DataView
    inputs_deleted_at: datetime | None = Field(description="when the uploaded images and texts were deleted")
    reverted_at: datetime | None = Field(
        description="when an operator took its release back, so that its people are known again"
    )
    replay_days: int | None = Field(
        description="how long a replay set of it is kept once it has succeeded; null keeps none"
    )
    replay_whole: bool = Field(
        description="whether the replay set holds all pairs, or a photo of each person with a few of its"
    )
    outcome: str | None = Field(
        description="`forgotten`: every target holds; `targets-not-met`: don't serve the adapter as if the people were "
        "forgotten; `nothing-to-forget`: the model doesn't know them; null while nothing is judged. An evaluation has "
        "succeeded with any of these"
    )
    error: ErrorView | None
    links: LinksView

    @classmethod
    def of(cls, job: Job, max_attempts: int) -> Self:
        """The view of `job`."""
        return cls.model_validate(_JobSource(job, max_attempts))


class JobView(JobSummary):
    """A job with everything known about it."""

    queue_position: int | None = Field(
        description=f"of a queued job, 1 being the next, as things stand; {FARTHEST} stands for all beyond, too"
    )
    estimated_start_at: datetime | None = Field(
        description="of a queued job, from its position, what runs now and how long the model's last jobs took; null "
        "while nothing is known of these"
    )
    waits_for: Literal["rebuild"] | None = Field(
        description="of a queued job: its model's line is being rebuilt from the base, and it waits for that"
    )
    config: dict[str, Any] = Field(description="the resolved settings of the run")
    metrics: list[MetricView] | None = Field(description="null until something is measured")
    verdict: VerdictView | None = Field(description="null until the audits are judged, and where there are none")
    artifact: ArtifactView | None = Field(
        description="null until the job has ended with one; also there if the verdict hasn't passed"
    )
    statement_salt: str | None = Field(
        description="hex; shows that the artifact's statement is of this job and of your sets. Nobody else is told it: "
        "whoever has it can test guesses of the forget set. Null without an artifact"
    )

    @classmethod
    def of(
        cls,
        job: Job,
        max_attempts: int,
        metrics: Sequence[Measurement] = (),
        artifact: Artifact | None = None,
        forecast: Forecast = _NO_FORECAST,
        statement_salt: str | None = None,
    ) -> Self:
        """The view of `job` with its measurements, its artifact and salt, and what is expected while it is queued."""
        return cls.model_validate(_JobSource(job, max_attempts, metrics, artifact, forecast, statement_salt))


class JobList(_View):
    """A page of jobs, newest first unless another order was asked for."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="for the next page; null on the last one")
    total: int | None = Field(description="how many match, on all pages; null unless `total=true` asks for it")


class EnvelopeSignature(_View):
    """One signature of an envelope."""

    keyid: str
    sig: str = Field(description="base64")


class SignedEnvelope(_View):
    """A DSSE envelope. Its payload is an in-toto statement."""

    payload: str = Field(description="base64 of the statement's JSON")
    payload_type: str = Field(alias="payloadType", description="`application/vnd.in-toto+json`")
    signatures: list[EnvelopeSignature]


class EventView(_View):
    """One event of a job's history. Ids grow with time. Events of earlier attempts stay in the history."""

    id: int
    at: datetime
    kind: EventKind
    data: dict[str, Any] = Field(
        description="of a job that waits again, `reason` says why, such as `disk-full`, and `errno` the system's name "
        "for it, such as `ENOSPC`, if it has one"
    )


class EventList(_View):
    """A part of a job's history, oldest first."""

    events: list[EventView]


JOBS_PATHS = {Kind.unlearn: "/unlearn-jobs", Kind.evaluate: "/evaluations"}


def job_path(job_id: UUID, kind: Kind = Kind.unlearn) -> str:
    """The path of a job of this kind."""
    return f"{JOBS_PATHS[kind]}/{job_id}"


def _artifact_view(artifact: Artifact) -> ArtifactView:
    url = f"{job_path(artifact.job_id)}/artifact"
    files = [ArtifactFileView(**file, url=f"{url}/files/{quote(file['name'])}") for file in artifact.files]
    return ArtifactView(sha256=artifact.sha256, size_bytes=artifact.size_bytes, url=url, files=files)


@dataclass(frozen=True)
class _JobSource:
    """What the views of a job read their fields from: the properties below, else the column of the field's name."""

    job: Job
    max_attempts: int
    measurements: Sequence[Measurement] = ()
    stored_artifact: Artifact | None = None
    forecast: Forecast = _NO_FORECAST
    statement_salt: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.job, name)

    @property
    def progress(self) -> Job:
        return self.job

    @property
    def data(self) -> Job:
        return self.job

    @property
    def error(self) -> Job | None:
        return None if self.job.error_type is None else self.job

    @property
    def cancel_requested(self) -> bool:
        return self.job.cancel_requested_at is not None

    @property
    def waits_for(self) -> str | None:
        return "rebuild" if self.forecast.rebuild else None

    @property
    def queue_position(self) -> int | None:
        return self.forecast.position

    @property
    def estimated_start_at(self) -> datetime | None:
        return self.forecast.starts_at

    @property
    def metrics(self) -> list[MetricView] | None:
        return metric_views(self.measurements) or None

    @property
    def artifact(self) -> ArtifactView | None:
        return None if self.stored_artifact is None else _artifact_view(self.stored_artifact)

    @property
    def links(self) -> LinksView:
        path, forgets = job_path(self.job.id, self.job.kind), self.job.kind is Kind.unlearn
        parts = {part: f"{path}/{part}" for part in ("events", "metrics", "evidence", "receipt", "cancel")}
        report, artifact = (f"{path}/{part}" if forgets else None for part in ("report", "artifact"))
        return LinksView(self=path, report=report, artifact=artifact, **parts)
