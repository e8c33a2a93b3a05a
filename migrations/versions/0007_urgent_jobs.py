"""Adds how many jobs of a client went by their deadline lately. A deadline before a job's creation counts as that."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME = "ix_jobs_by_deadline"
_DUE = sa.text("state = 'queued' AND due_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("clients", sa.Column("urgent_since", sa.DateTime(timezone=True)))
    op.add_column("clients", sa.Column("urgent_starts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    # With the column beside its expression, Postgres reads no row of the table.
    _replace_index(sa.text("greatest(due_at, created_at)"), include=["due_at"])


def downgrade() -> None:
    _replace_index("due_at")
    op.drop_column("clients", "urgent_starts")
    op.drop_column("clients", "urgent_since")


def _replace_index(deadline: str | sa.TextClause, include: Sequence[str] = ()) -> None:
    op.drop_index(_NAME, "jobs")
    columns: list[str | sa.TextClause] = ["client_id", deadline, sa.text("priority DESC"), "created_at", "id"]
    op.create_index(_NAME, "jobs", columns, postgresql_include=include, postgresql_where=_DUE)
