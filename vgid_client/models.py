"""A request's fields and the service's answers as types. Fields that the service may add later are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vgid_client.errors import UnexpectedReply

Reply = TypeVar("Reply", bound=BaseModel)

SHA256 = "^[0-9a-f]{64}$"  # part of a file's name while it is fetched
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class EvaluationFields(TypedDict, total=False):
    """The fields of an evaluation besides its model, adapter and pairs. None means that the field isn't sent.

    targets: of the verdict, each at most the model's own. audits: a level at least as high as the model's own.
    """

    retain_set: str | None
    targets: Mapping[str, float] | None
    audits: str | None
    external_id: str | None
    subject_reference: str | None
    legal_basis: str | None
    due_at: datetime | None
    priority: int | None
    metadata: Mapping[str, str] | None


class RequestFields(EvaluationFields, total=False):
    """The fields of a forget request besides its model and pairs. None means that the field isn't sent.

    replay_days: how long a replay set is kept, 0 for none. replay_whole: it holds all pairs, not a few. repeat: forget
    again whom the current release has forgotten already.
    """

    training: Mapping[str, Any] | None
    replay_days: int | None
    replay_whole: bool | None
    repeat: bool | None


class ListFilters(TypedDict, total=False):
    """Which jobs to list; None leaves none out. No personal data, please: a URL stays in logs.

    metadata: all of it must be so; no key may hold `=`. *_after: at this moment or later. *_before: before this moment.
    """

    state: str | None
    model: str | None
    external_id: str | None
    metadata: Mapping[str, str] | None
    created_after: datetime | None
    created_before: datetime | None
    due_after: datetime | None
    due_before: datetime | None


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Finding(_Reply):
    """One kind of thing to look at in a request's data, and its places, such as `retain[3].image`."""

    level: Literal["error", "warning"]
    kind: str
    message: str
    places: tuple[str, ...]


class Estimate(_Reply):
    """What a request would be; nothing is stored. What the service can't tell is None."""

    model: str
    retain_set: str | None = None
    forget_pairs: int
    retain_pairs: int | None = None
    steps: int
    expected_seconds: float | None = None
    queue_position: int | None = None
    estimated_start_at: datetime | None = None
    findings: tuple[Finding, ...] = ()


class Progress(_Reply):
    """A job's progress. fraction: of the whole run, 0 to 1. step: within the phase. Losses: nats per answer token."""

    fraction: float = 0.0
    step: int = 0
    total_steps: int = 0
    loss_forget: float | None = None
    loss_retain: float | None = None
    estimated_finish_at: datetime | None = None


class Metric(_Reply):
    """One figure of one set, before and after forgetting. None until it is measured."""

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
    """The adapter's zip: its sha256, its size in bytes, and its files."""

    sha256: str = Field(pattern=SHA256)
    size_bytes: int
    files: tuple[ArtifactFile, ...] = ()


class HeldJob(_Reply):
    """A job of your own whose people a release holds.

    still_forgotten: in release `checked_in`. False: the model knows its people again. None where there was no replay
    set to check by, so nobody has looked since.
    """

    job_id: str
    still_forgotten: bool | None
    checked_in: int


class Release(_Reply):
    """A model's current release, which is to be served.

    drift: the largest drop on a set about others. It and the counts are of all clients' jobs: None without the right
    `serve`. zip_sha256, zip_bytes: None if this key can't download the adapter.
    """

    model: str
    number: int
    base_digest: str
    adapter_sha256: str
    rank: int
    drift: float | None = None
    requests: int | None = None
    checked: int | None = None
    unchecked: int | None = None
    zip_sha256: str | None = Field(default=None, pattern=SHA256)
    zip_bytes: int | None = None
    own: tuple[HeldJob, ...]
    not_held: tuple[str, ...] = ()


class ReplaySet(_Reply):
    """What is kept of a job, until `expires_at` or until its client ends it."""

    pairs: int
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    deleted_at: datetime | None


class JobError(_Reply):
    """Why a job failed."""

    type: str
    detail: str | None = None


class Data(_Reply):
    """The job's data, as counts of pairs. `probes` has a count per probe."""

    forget_pairs: int
    retain_pairs: int | None = None
    retain_set: str | None = None
    probes: dict[str, int] = Field(default_factory=dict)


class MissedTarget(_Reply):
    """A target of the verdict that doesn't hold. amount: what the target limits. low, high: of the 95 % interval."""

    figure: str
    set: str
    value: float
    low: float
    high: float
    amount: float
    judged: str
    limit: float
    meaning: str


class Verdict(_Reply):
    """What the audits of an ended job came to. unmeasured: claims for which nothing was measured."""

    level: str
    missed: tuple[MissedTarget, ...] = ()
    unmeasured: tuple[str, ...] = ()


class Job(_Reply):
    """A job as the service reports it.

    kind: `unlearn` or `evaluate`. adapter_of: of an evaluation, the job whose adapter is measured; None for the model
    alone.
    """

    id: str
    kind: str = "unlearn"
    adapter_of: str | None = None
    release_id: str | None = None
    state: str
    phase: str | None = None
    progress: Progress = Progress()
    model: str
    external_id: str | None = None
    subject_reference_hash: str | None = None
    legal_basis: str | None = None
    due_at: datetime | None = None
    priority: int = 0
    metadata: dict[str, str] = Field(default_factory=dict)
    attempt: int = 0
    max_attempts: int | None = None
    cancel_requested: bool = False
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    queue_position: int | None = None
    estimated_start_at: datetime | None = None
    waits_for: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    data: Data | None = None
    inputs_deleted_at: datetime | None = None
    reverted_at: datetime | None = None
    replay_days: int | None = None
    replay_whole: bool = False
    error: JobError | None = None
    metrics: tuple[Metric, ...] | None = None
    outcome: str | None = None
    verdict: Verdict | None = None
    artifact: Artifact | None = None
    statement_salt: str | None = Field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        """Whether the job is in a final state."""
        return self.state in ENDED


class JobPage(_Reply):
    """A page of jobs. next_cursor: None on the last page. total: how many match, None unless it was asked for."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None
    total: int | None = None


class Event(_Reply):
    """One event of a job's history. Ids grow with time. The form of `data` depends on `kind`."""

    id: int
    at: datetime
    kind: Literal["state", "phase", "progress", "metrics", "release"] | str
    data: dict[str, Any] = Field(default_factory=dict)


class Model(_Reply):
    """A model that the service can make forget. `retain_sets` are the names that a request may give.

    line: `shared`, all its clients have the same releases, or `per client`.
    """

    name: str
    title: str | None = None
    retain_sets: tuple[str, ...] = ()
    default_retain_set: str | None = None
    line: str = "shared"


def parse_reply(model: type[Reply], document: Any) -> Reply:
    """Validates `document` as `model`. Raises UnexpectedReply, which names the field that doesn't fit."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "top"
        raise UnexpectedReply(f"the reply can't be understood (at '{place}'): is this the right URL?") from None
