"""Adds lines of releases, kits and marks. A model has one training at a time from now on.

Jobs that had trained before belong to no release: the first job after this one begins the model's line.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kit_days", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("reverted_at", sa.DateTime(timezone=True), nullable=True))
    _event_kinds("'state', 'phase', 'progress', 'metrics', 'release'")
    # Several may run now. Their workers lose them, and the queue runs them one after the other.
    op.execute(
        "UPDATE jobs SET state = 'queued', phase = NULL, attempt_token = NULL, lease_expires_at = NULL, "
        "attempt = greatest(attempt - 1, 0) WHERE state = 'running' AND kind = 'unlearn'"
    )
    _index_by_priority(include=["model", "kind", "due_at"])
    running = sa.text("state = 'running' AND kind = 'unlearn'")
    op.create_index("uq_jobs_line", "jobs", ["model"], unique=True, postgresql_where=running)
    op.create_table(
        "releases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base_digest", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("adapter_sha256", sa.String(64), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("drift", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("current_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('candidate', 'current', 'superseded', 'reverted')", name=op.f("ck_releases_releasestate")
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_releases_number_range")),
        sa.CheckConstraint(
            "(state IN ('current', 'superseded', 'reverted')) = (current_at IS NOT NULL)",
            name=op.f("ck_releases_was_current"),
        ),
        sa.CheckConstraint(
            "(state IN ('superseded', 'reverted')) = (ended_at IS NOT NULL)", name=op.f("ck_releases_ended")
        ),
        sa.CheckConstraint(
            "(state = 'reverted') = (reason IS NOT NULL)", name=op.f("ck_releases_reason_when_reverted")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_releases_job_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["releases.id"], name=op.f("fk_releases_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("job_id", name=op.f("uq_releases_job_id")),
        sa.UniqueConstraint("model", "base_digest", "number", name=op.f("uq_releases_model_base_digest_number")),
    )
    op.add_column("jobs", sa.Column("release_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_release_id"), "jobs", "releases", ["release_id"], ["id"])
    op.create_check_constraint(
        op.f("ck_jobs_release_of_evaluation"),
        "jobs",
        "release_id IS NULL OR (kind = 'evaluate' AND adapter_of IS NULL)",
    )
    current = sa.text("state = 'current'")
    op.create_index("uq_releases_current", "releases", ["model"], unique=True, postgresql_where=current)
    op.create_table(
        "release_jobs",
        sa.Column("release_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("still_forgotten", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_release_jobs_job_id")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_release_jobs_release_id")),
        sa.PrimaryKeyConstraint("release_id", "job_id", name=op.f("pk_release_jobs")),
    )
    op.create_index("ix_release_jobs_job_id", "release_jobs", ["job_id"])
    op.create_table(
        "kits",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.CheckConstraint("(ended_at IS NULL) = (wrapped_key IS NOT NULL)", name=op.f("ck_kits_key_until_end")),
        sa.CheckConstraint("deleted_at IS NULL OR ended_at IS NOT NULL", name=op.f("ck_kits_deleted_after_end")),
        sa.CheckConstraint("receipt IS NULL OR deleted_at IS NOT NULL", name=op.f("ck_kits_receipt_after_deletion")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_kits_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_kits")),
    )
    kept, unfinished = sa.text("ended_at IS NULL"), sa.text("ended_at IS NOT NULL AND receipt IS NULL")
    op.create_index("ix_kits_expires_at", "kits", ["expires_at"], postgresql_where=kept)
    op.create_index("ix_kits_unfinished", "kits", ["ended_at"], postgresql_where=unfinished)
    op.create_table(
        "marks",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("mark", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_marks_job_id")),
        sa.PrimaryKeyConstraint("job_id", "mark", name=op.f("pk_marks")),
    )


def downgrade() -> None:
    op.drop_column("jobs", "release_id")
    for name in ("marks", "kits", "release_jobs", "releases"):
        op.drop_table(name)
    op.drop_index("uq_jobs_line", "jobs")
    _index_by_priority(include=[])
    op.drop_column("jobs", "reverted_at")
    op.drop_column("jobs", "kit_days")
    op.execute("DELETE FROM job_events WHERE kind = 'release'")
    _event_kinds("'state', 'phase', 'progress', 'metrics'")


def _index_by_priority(include: list[str]) -> None:
    """Makes the index of the next job again. With these columns in it a busy model's jobs are passed over quickly."""
    op.drop_index("ix_jobs_by_priority", "jobs")
    op.create_index(
        "ix_jobs_by_priority",
        "jobs",
        ["client_id", sa.text("priority DESC"), "created_at", "id"],
        postgresql_include=include,
        postgresql_where=sa.text("state = 'queued'"),
    )


def _event_kinds(kinds: str) -> None:
    op.drop_constraint(op.f("ck_job_events_kind"), "job_events")
    op.create_check_constraint(op.f("ck_job_events_kind"), "job_events", f"kind IN ({kinds})")
