"""Adds what the next job is chosen by: clients' limits and last turns, jobs' priorities, and the indexes for it.

`published_at` goes: nobody asks any more which job's message was sent when.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("limits", JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("clients", sa.Column("last_started_at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE clients SET last_started_at = started.last FROM "
        "(SELECT client_id, max(started_at) AS last FROM jobs GROUP BY client_id) AS started "
        "WHERE started.client_id = clients.id"
    )
    op.add_column("jobs", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.create_check_constraint(op.f("ck_jobs_priority_range"), "jobs", "priority BETWEEN -10 AND 10")
    op.drop_index("ix_jobs_open", "jobs")
    op.drop_column("jobs", "published_at")
    _create_indexes()


def downgrade() -> None:
    for name in ("by_priority", "by_deadline", "running", "succeeded"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
    published_at = sa.Column(
        "published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )
    op.add_column("jobs", published_at)
    is_open = sa.text("state IN ('queued', 'running')")
    op.create_index("ix_jobs_open", "jobs", ["state", "published_at"], postgresql_where=is_open)
    op.drop_constraint(op.f("ck_jobs_priority_range"), "jobs")
    op.drop_column("jobs", "priority")
    op.drop_column("clients", "last_started_at")
    op.drop_column("clients", "limits")


def _create_indexes() -> None:
    queued, running, succeeded = (sa.text(f"state = '{state}'") for state in ("queued", "running", "succeeded"))
    ranked: list[str | sa.TextClause] = [sa.text("priority DESC"), "created_at", "id"]
    due = sa.text("state = 'queued' AND due_at IS NOT NULL")
    op.create_index("ix_jobs_by_priority", "jobs", ["client_id", *ranked], postgresql_where=queued)
    op.create_index("ix_jobs_by_deadline", "jobs", ["client_id", "due_at", *ranked], postgresql_where=due)
    op.create_index("ix_jobs_running", "jobs", ["client_id"], postgresql_where=running)
    op.create_index("ix_jobs_succeeded", "jobs", ["model", sa.text("finished_at DESC")], postgresql_where=succeeded)
