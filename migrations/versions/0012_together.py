"""Lets several requests take part in one run of a line."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_RUNNING = "state = 'running' AND kind = 'unlearn'"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("run_of", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_run_of"), "jobs", "jobs", ["run_of"], ["id"])
    op.add_column("jobs", sa.Column("runs_alone", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_check_constraint(op.f("ck_jobs_run_of_claimed"), "jobs", "run_of IS NULL OR state != 'queued'")
    _line_index(f"{_RUNNING} AND run_of IS NULL")
    op.create_index(
        "ix_jobs_joinable",
        "jobs",
        ["model", "retain_set", "due_at", sa.text("priority DESC"), "created_at", "id"],
        postgresql_where=sa.text("state = 'queued' AND kind = 'unlearn' AND retain_pairs IS NULL AND NOT runs_alone"),
    )


def downgrade() -> None:
    # Whoever takes part in another job's run starts again by itself.
    op.execute(
        "UPDATE jobs SET state = 'queued', phase = NULL, attempt_token = NULL, lease_expires_at = NULL, run_of = NULL, "
        "attempt = greatest(attempt - 1, 0) WHERE state = 'running' AND run_of IS NOT NULL"
    )
    op.drop_index("ix_jobs_joinable", "jobs")
    _line_index(_RUNNING)
    op.drop_column("jobs", "runs_alone")
    op.drop_column("jobs", "run_of")


def _line_index(which: str) -> None:
    op.drop_index("uq_jobs_line", "jobs")
    op.create_index("uq_jobs_line", "jobs", ["model"], unique=True, postgresql_where=sa.text(which))
