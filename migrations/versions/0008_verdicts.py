"""Adds what a job has come to, its verdict, and its artifact's evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("outcome", sa.String(32), nullable=True))
    op.add_column("jobs", sa.Column("verdict", postgresql.JSONB(), nullable=True))
    op.add_column("artifacts", sa.Column("evidence", postgresql.JSONB(), nullable=True))
    success, forgotten = op.f("ck_jobs_success_is_forgotten"), op.f("ck_jobs_forgotten_is_success")
    op.create_check_constraint(success, "jobs", "state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'")
    op.create_check_constraint(forgotten, "jobs", "outcome != 'forgotten' OR state = 'succeeded'")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_jobs_forgotten_is_success"), "jobs")
    op.drop_constraint(op.f("ck_jobs_success_is_forgotten"), "jobs")
    op.drop_column("artifacts", "evidence")
    op.drop_column("jobs", "verdict")
    op.drop_column("jobs", "outcome")
