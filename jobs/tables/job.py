"""A request, and the state of its run."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobs.states import SHARED_LINE, Kind, Phase, State
from jobs.tables.base import Base, text_enum


class Job(Base):
    """A request to forget or to evaluate, or an operator's order to rebuild, and the state of its run.

    Counts are in pairs, losses in nats per token.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("client_id", "idempotency_key"),
        # An evaluation measures an adapter of its own client, or none.
        UniqueConstraint("client_id", "id"),
        ForeignKeyConstraint(["client_id", "adapter_of"], ["jobs.client_id", "jobs.id"], name="fk_jobs_adapter_of"),
        CheckConstraint("adapter_of IS NULL OR kind = 'evaluate'", name="adapter_of_evaluation"),
        CheckConstraint(
            "release_id IS NULL OR (kind = 'evaluate' AND adapter_of IS NULL)", name="release_of_evaluation"
        ),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress_range"),
        CheckConstraint("attempt >= 0", name="attempt_range"),
        CheckConstraint("priority BETWEEN -10 AND 10", name="priority_range"),
        # A job has a token and a lease exactly while it runs.
        CheckConstraint("(state = 'running') = (attempt_token IS NOT NULL)", name="token_while_running"),
        CheckConstraint("(attempt_token IS NULL) = (lease_expires_at IS NULL)", name="lease_with_token"),
        # Whoever leads a run has begun to at some moment: its client's turn is as long as that.
        CheckConstraint(
            "(state = 'running' AND run_of IS NULL) = (leads_since IS NOT NULL)", name="leads_while_running"
        ),
        # An ended job has no key, so its uploads can't be read any more, not even from a backup of the files.
        # A rebuild has none: it reads replay sets, each by its own key.
        CheckConstraint(
            "(state IN ('queued', 'running') AND kind != 'rebuild') = (wrapped_data_key IS NOT NULL)",
            name="key_until_end",
        ),
        CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name="finished_at_end"),
        CheckConstraint("(state = 'failed') = (error_type IS NOT NULL)", name="error_when_failed"),
        # A receipt says what was deleted, so there is none before.
        CheckConstraint("receipt IS NULL OR inputs_deleted_at IS NOT NULL", name="receipt_after_deletion"),
        # Forgetting succeeds by a verdict that every target holds, or without a verdict if its settings ask for none.
        CheckConstraint(
            "kind = 'evaluate' OR state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'",
            name="success_is_forgotten",
        ),
        CheckConstraint("outcome != 'forgotten' OR state = 'succeeded'", name="forgotten_is_success"),
        # An evaluation succeeds when it has measured, whatever it has found.
        CheckConstraint(
            "kind != 'evaluate' OR (state = 'succeeded') = (outcome IS NOT NULL)", name="success_is_measured"
        ),
        # Lists are per client and kind, newest first, with keyset paging. Each filter has an index, so no list scans
        # jobs that the filter drops.
        Index("ix_jobs_newest", "client_id", "kind", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_newest_in_state", "client_id", "kind", "state", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_newest_of_model", "client_id", "kind", "model", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_due", "client_id", "kind", text("coalesce(due_at, 'infinity'::timestamptz)"), "id"),
        Index(
            "ix_jobs_metadata", "job_metadata",
            postgresql_using="gin", postgresql_ops={"job_metadata": "jsonb_path_ops"},
        ),
        Index("ix_jobs_external_id", "client_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
        Index("ix_jobs_subject_hash", "client_id", "subject_hash", postgresql_where=text("subject_hash IS NOT NULL")),
        # The next job is looked for client by client: in the order of priorities, and in that of deadlines.
        Index(
            "ix_jobs_by_priority", "client_id", text("priority DESC"), "created_at", "id",
            postgresql_include=["model", "line", "kind", "due_at"], postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_by_deadline", "client_id", text("greatest(due_at, created_at)"), text("priority DESC"),
            "created_at", "id",
            postgresql_include=["due_at"], postgresql_where=text("state = 'queued' AND due_at IS NOT NULL"),
        ),
        # A line has one run at a time: two would both start from the same release, and one would be lost.
        Index(
            "uq_jobs_line", "model", "line", unique=True,
            postgresql_where=text("state = 'running' AND kind IN ('unlearn', 'rebuild') AND run_of IS NULL"),
        ),
        Index(
            "uq_jobs_rebuild", "model", "line", unique=True,
            postgresql_where=text("kind = 'rebuild' AND state IN ('queued', 'running')"),
        ),
        CheckConstraint("run_of IS NULL OR state != 'queued'", name="run_of_claimed"),
        # Which jobs of a client may join a run, in their order.
        Index(
            "ix_jobs_joinable", "client_id", "model", "retain_set", "proven", "due_at", text("priority DESC"),
            "created_at", "id",
            postgresql_where=text("state = 'queued' AND kind = 'unlearn' AND retain_pairs IS NULL AND NOT runs_alone"),
        ),
        # Which jobs go before all others: one of a client, so that nobody can fill that line.
        Index(
            "uq_jobs_goes_first", "client_id", unique=True,
            postgresql_where=text("goes_first AND state IN ('queued', 'running')"),
        ),
        # How many jobs of a client run, and which of them have an expired lease.
        Index("ix_jobs_running", "client_id", postgresql_where=text("state = 'running'")),
        # How long the last jobs of a kind took with a model.
        Index(
            "ix_jobs_succeeded", "model", "kind", text("finished_at DESC"), postgresql_where=text("state = 'succeeded'")
        ),
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
    kind: Mapped[Kind] = mapped_column(text_enum(Kind), default=Kind.unlearn, server_default=text("'unlearn'"))
    adapter_of: Mapped[UUID | None]  # the job whose adapter an evaluation measures; null for the base
    release_id: Mapped[UUID | None] = mapped_column(ForeignKey("releases.id", use_alter=True))  # measured by it
    state: Mapped[State] = mapped_column(text_enum(State), default=State.queued)
    phase: Mapped[Phase | None] = mapped_column(text_enum(Phase))

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    # The request, without its images and texts.
    model: Mapped[str]
    line: Mapped[str] = mapped_column(default=SHARED_LINE, server_default=text("''"))  # of the model's; see SHARED_LINE
    config: Mapped[dict[str, Any]]  # the resolved UnlearnConfig as JSON; of a rebuild, whom it may leave out
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
    replay_days: Mapped[int | None]  # how long a replay set is kept; null keeps none
    replay_whole: Mapped[bool] = mapped_column(default=False, server_default=text("false"))  # all pairs, not a few
    request_hash: Mapped[str] = mapped_column(String(64))  # keyed, of the canonical request

    # The claim.
    attempt: Mapped[int] = mapped_column(default=0)
    attempt_token: Mapped[UUID | None]  # one of a run: jobs that are run together have the same
    run_of: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))  # the job in whose run it takes part
    leads_since: Mapped[datetime | None]  # since when the current attempt is this job's, and not another one's
    runs_alone: Mapped[bool] = mapped_column(default=False, server_default=text("false"))  # after a run that came apart
    goes_first: Mapped[bool] = mapped_column(default=False, server_default=text("false"))  # another's job broke its run
    proven: Mapped[bool] = mapped_column(default=False, server_default=text("false"))  # all guards have let it pass
    worker: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]

    # The current attempt's progress.
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    planned_steps: Mapped[int] = mapped_column(default=0, server_default=text("0"))  # at the default batch sizes
    progress: Mapped[float] = mapped_column(default=0.0)
    loss_forget: Mapped[float | None]
    loss_retain: Mapped[float | None]
    estimated_finish_at: Mapped[datetime | None]
    last_progress_at: Mapped[datetime | None]

    # The end.
    wrapped_data_key: Mapped[bytes | None]
    inputs_deleted_at: Mapped[datetime | None]
    receipt: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # signed, in a DSSE envelope
    reverted_at: Mapped[datetime | None]  # when its people became known again, by an operator's rollback
    outcome: Mapped[str | None] = mapped_column(String(32))  # what it has come to, if that was judged
    verdict: Mapped[dict[str, Any] | None]  # the level of the audits, targets that were missed, claims not measured
    error_type: Mapped[str | None]
    error_detail: Mapped[str | None]
