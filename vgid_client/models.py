"""What the service answers, typed. Fields it may add later are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vgid_client.errors import UnexpectedReply

Reply = TypeVar("Reply", bound=BaseModel)

ENDED = frozenset({"succeeded", "failed", "cancelled"})


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(_Reply):
    """How far a job is: `fraction` of the whole run from 0 to 1, `step` within the phase."""

    fraction: float = 0.0
    step: int = 0
    total_steps: int = 0
    loss_forget: float | None = None
    loss_retain: float | None = None
    estimated_finish_at: datetime | None = None


class Metric(_Reply):
    """One figure of one set, before and after forgetting; None until it is known."""

    split: str
    name: Literal["rouge_l", "answer_probability"] | str
    before: float | None = None
    after: float | None = None
    pairs: int


class ArtifactFile(_Reply):
    """One file of the adapter; `size` in bytes."""

    name: str
    sha256: str
    size: int


class Artifact(_Reply):
    """The adapter as a zip: what it must hash to, and its size in bytes."""

    sha256: str
    size_bytes: int
    files: tuple[ArtifactFile, ...] = ()


class JobError(_Reply):
    """Why a job failed."""

    type: str
    detail: str | None = None


class Data(_Reply):
    """How many pairs a job was given; `probes` by name."""

    forget_pairs: int
    retain_pairs: int | None = None
    retain_set: str | None = None
    probes: dict[str, int] = Field(default_factory=dict)


class Job(_Reply):
    """An unlearning job as the service reports it."""

    id: str
    state: str
    phase: str | None = None
    progress: Progress = Progress()
    model: str
    external_id: str | None = None
    subject_reference_hash: str | None = None
    legal_basis: str | None = None
    due_at: datetime | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    attempt: int = 0
    max_attempts: int | None = None
    cancel_requested: bool = False
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    data: Data | None = None
    inputs_deleted_at: datetime | None = None
    error: JobError | None = None
    stop_reason: str | None = None
    metrics: tuple[Metric, ...] | None = None
    knew_forget_set: bool | None = None
    artifact: Artifact | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED


class JobPage(_Reply):
    """Some jobs, newest first; `next_cursor` asks for the next page and is None on the last one."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class Event(_Reply):
    """Something that happened to a job. `id` grows; `data` depends on `kind`."""

    id: int
    at: datetime
    kind: Literal["state", "phase", "progress", "metrics"] | str
    data: dict[str, Any] = Field(default_factory=dict)


class RetainSet(_Reply):
    """A retain set that is registered for a model."""

    name: str


class Model(_Reply):
    """A model that the service can make forget."""

    name: str
    title: str | None = None
    retain_sets: tuple[RetainSet | str, ...] = ()
    default_retain_set: str | None = None

    @property
    def retain_set_names(self) -> tuple[str, ...]:
        """What `retain_set` may be in a request for this model."""
        return tuple(found if isinstance(found, str) else found.name for found in self.retain_sets)


def parsed(model: type[Reply], document: Any) -> Reply:
    """`document` as `model`. Raises UnexpectedReply, which names the place that doesn't fit."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "top"
        raise UnexpectedReply(f"the reply can't be understood (at '{place}'): is this the right URL?") from None
