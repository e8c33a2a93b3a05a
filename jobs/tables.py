"""The ledger's tables. Each invariant is a constraint here, so that no code path can break it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Enum,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.states import Phase, State

EventKind = Literal["state", "phase", "progress", "metrics"]
MetricStage = Literal["before", "after"]

# Migrations address constraints and indexes by name, so names must be the same in every database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamptz that is read as UTC, whatever the server's time zone. It refuses times without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Returns the value unchanged. Raises ValueError when it has no zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone is ambiguous")
        return value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """The value in UTC."""
        return None if value is None else value.astimezone(UTC)


def _text_enum(kind: type[StrEnum]) -> Enum:
    """A text column with a check for the values of `kind`. A native enum type is hard to change later."""
    return Enum(
        kind,
        name=kind.__name__.lower(),
        native_enum=False,
        length=16,
        create_constraint=True,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """The base of all tables.

    `eager_defaults` reads values that the database makes back at once, so that an object outlives its session.
    """

    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012  (SQLAlchemy declares it without ClassVar)

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        UUID: Uuid(),
        str: Text(),
        float: Double(),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
        dict[str, int]: JSONB(),
        dict[str, str]: JSONB(),
        list[dict[str, Any]]: JSONB(),
    }


class Client(Base):
    """A system that sends forget requests. It sees its own jobs only."""

    __tablename__ = "clients"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # What differs from the defaults of `ClientLimits`.
    limits: Mapped[dict[str, int]] = mapped_column(default=dict, server_default=text("'{}'"))
    # When an attempt at one of its jobs last started. Turns between clients go by it.
    last_started_at: Mapped[datetime | None]
    # How many attempts started by their deadline in the day that began then.
    urgent_since: Mapped[datetime | None]
    urgent_starts: Mapped[int] = mapped_column(default=0, server_default=text("0"))


class ApiKey(Base):
    """A client's credential. The secret is shown once and stored as a hash. `prefix` tells keys apart in lists."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"), index=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class Job(Base):
    """One forget request and the state of its run. Counts are in pairs, losses in nats per token."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("client_id", "idempotency_key"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress_range"),
        CheckConstraint("attempt >= 0", name="attempt_range"),
        CheckConstraint("priority BETWEEN -10 AND 10", name="priority_range"),
        # A job has a token and a lease exactly while it runs.
        CheckConstraint("(state = 'running') = (attempt_token IS NOT NULL)", name="token_while_running"),
        CheckConstraint("(attempt_token IS NULL) = (lease_expires_at IS NULL)", name="lease_with_token"),
        # An ended job has no key, so its uploads can't be read any more, not even from a backup of the files.
        CheckConstraint("(state IN ('queued', 'running')) = (wrapped_data_key IS NOT NULL)", name="key_until_end"),
        CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name="finished_at_end"),
        CheckConstraint("(state = 'failed') = (error_type IS NOT NULL)", name="error_when_failed"),
        # A receipt says what was deleted, so there is none before.
        CheckConstraint("receipt IS NULL OR inputs_deleted_at IS NOT NULL", name="receipt_after_deletion"),
        # A job succeeds by a verdict that every target holds, or without a verdict if its settings ask for none.
        CheckConstraint(
            "state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'", name="success_is_forgotten"
        ),
        CheckConstraint("outcome != 'forgotten' OR state = 'succeeded'", name="forgotten_is_success"),
        # Lists are per client, newest first, with keyset paging. Each filter has an index, so no list scans jobs that
        # the filter drops.
        Index("ix_jobs_newest", "client_id", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_newest_in_state", "client_id", "state", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_newest_of_model", "client_id", "model", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_due", "client_id", text("coalesce(due_at, 'infinity'::timestamptz)"), "id"),
        Index(
            "ix_jobs_metadata", "job_metadata",
            postgresql_using="gin", postgresql_ops={"job_metadata": "jsonb_path_ops"},
        ),
        Index("ix_jobs_external_id", "client_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
        Index("ix_jobs_subject_hash", "client_id", "subject_hash", postgresql_where=text("subject_hash IS NOT NULL")),
        # The next job is looked for client by client: in the order of priorities, and in that of deadlines.
        Index(
            "ix_jobs_by_priority", "client_id", text("priority DESC"), "created_at", "id",
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_by_deadline", "client_id", text("greatest(due_at, created_at)"), text("priority DESC"),
            "created_at", "id",
            postgresql_include=["due_at"], postgresql_where=text("state = 'queued' AND due_at IS NOT NULL"),
        ),
        # How many jobs of a client run, and which of them have an expired lease.
        Index("ix_jobs_running", "client_id", postgresql_where=text("state = 'running'")),
        # How long the last jobs of a model took.
        Index("ix_jobs_succeeded", "model", text("finished_at DESC"), postgresql_where=text("state = 'succeeded'")),
        # The reaper looks for inputs of ended jobs.
        Index("ix_jobs_inputs_remain", "finished_at", postgresql_where=text("inputs_deleted_at IS NULL")),
        # And for deletions without a receipt.
        Index(
            "ix_jobs_receipt_due", "inputs_deleted_at",
            postgresql_where=text("inputs_deleted_at IS NOT NULL AND receipt IS NULL"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    state: Mapped[State] = mapped_column(_text_enum(State), default=State.queued)
    phase: Mapped[Phase | None] = mapped_column(_text_enum(Phase))

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    # The request, without its images and texts.
    model: Mapped[str]
    config: Mapped[dict[str, Any]]  # the resolved UnlearnConfig as JSON
    retain_set: Mapped[str | None]
    forget_pairs: Mapped[int]
    retain_pairs: Mapped[int | None]
    probes: Mapped[dict[str, int]]
    external_id: Mapped[str | None]
    subject_hash: Mapped[str | None] = mapped_column(String(64))
    legal_basis: Mapped[str | None]
    due_at: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default=text("0"))
    job_metadata: Mapped[dict[str, str]] = mapped_column(default=dict)
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str] = mapped_column(String(64))  # keyed, of the canonical request

    # The claim.
    attempt: Mapped[int] = mapped_column(default=0)
    attempt_token: Mapped[UUID | None]
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]

    # The current attempt's progress.
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    planned_steps: Mapped[int] = mapped_column(default=0, server_default=text("0"))  # known before the job runs
    progress: Mapped[float] = mapped_column(default=0.0)
    loss_forget: Mapped[float | None]
    loss_retain: Mapped[float | None]
    estimated_finish_at: Mapped[datetime | None]
    last_progress_at: Mapped[datetime | None]

    # The end.
    wrapped_data_key: Mapped[bytes | None]
    inputs_deleted_at: Mapped[datetime | None]
    receipt: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # signed, in a DSSE envelope
    outcome: Mapped[str | None] = mapped_column(String(32))  # what it has come to, if that was judged
    verdict: Mapped[dict[str, Any] | None]  # the level of the audits, targets that were missed, claims not measured
    error_type: Mapped[str | None]
    error_detail: Mapped[str | None]
    stop_reason: Mapped[str | None]


class JobEvent(Base):
    """One event of a job's history. Events of superseded attempts stay. `data` holds no personal data."""

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint("kind IN ('state', 'phase', 'progress', 'metrics')", name="kind"),
        Index("ix_job_events_history", "job_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    kind: Mapped[EventKind] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]


class JobMetric(Base):
    """One measured number of the latest attempt. `pairs` says over how many pairs."""

    __tablename__ = "job_metrics"
    __table_args__ = (CheckConstraint("stage IN ('before', 'after')", name="stage"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    stage: Mapped[MetricStage] = mapped_column(String(16), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    pairs: Mapped[int]


class Artifact(Base):
    """A job's result: a zip, addressed by its sha256. `files` lists {name, sha256, size} of its members."""

    __tablename__ = "artifacts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[list[dict[str, Any]]]
    manifest: Mapped[dict[str, Any]]
    evidence: Mapped[dict[str, Any] | None]  # evidence.json, the verdict among it; None without audits
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SigningKey(Base):
    """A signing key's public halves and times. Rows stay, because old signatures are still checked.

    id: sha256 of the statement key. statement_key: Ed25519 in hex. folder_key: ECDSA P-256 in PEM. Retired: signs no
    more. Revoked: nothing that it signed counts.
    """

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    statement_key: Mapped[str]
    folder_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
