"""Adds indexes for the lists in the order of deadlines, between two of them, and by metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A job without a deadline has a place in the order, too: behind all others.
    due = sa.text("coalesce(due_at, 'infinity'::timestamptz)")
    op.create_index("ix_jobs_due", "jobs", ["client_id", due, "id"])
    op.create_index(
        "ix_jobs_metadata",
        "jobs",
        ["job_metadata"],
        postgresql_using="gin",
        postgresql_ops={"job_metadata": "jsonb_path_ops"},
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_metadata", "jobs")
    op.drop_index("ix_jobs_due", "jobs")
