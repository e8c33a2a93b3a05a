"""Lets a job that another client's held up go first, and keeps unproven jobs of one client apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_JOINABLE = "state = 'queued' AND kind = 'unlearn' AND retain_pairs IS NULL AND NOT runs_alone"
_IN_ORDER: list[str | sa.TextClause] = ["due_at", sa.text("priority DESC"), "created_at", "id"]


def upgrade() -> None:
    for name in ("goes_first", "proven"):
        op.add_column("jobs", sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_jobs_goes_first",
        "jobs",
        ["client_id", "created_at", "id"],
        postgresql_where=sa.text("state = 'queued' AND goes_first"),
    )
    _joinable(["client_id", "model", "retain_set", "proven", *_IN_ORDER])


def downgrade() -> None:
    _joinable(["model", "retain_set", *_IN_ORDER])
    op.drop_index("ix_jobs_goes_first", "jobs")
    op.drop_column("jobs", "proven")
    op.drop_column("jobs", "goes_first")


def _joinable(columns: list[str | sa.TextClause]) -> None:
    op.drop_index("ix_jobs_joinable", "jobs")
    op.create_index("ix_jobs_joinable", "jobs", columns, postgresql_where=sa.text(_JOINABLE))
