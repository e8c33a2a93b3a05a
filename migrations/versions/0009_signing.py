"""Adds signing keys' public halves, and jobs' deletion receipts. Workers sign those of earlier deletions, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("statement_key", sa.Text(), nullable=False),
        sa.Column("folder_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
    )
    op.add_column("jobs", sa.Column("receipt", JSONB()))
    op.create_check_constraint(
        op.f("ck_jobs_receipt_after_deletion"), "jobs", "receipt IS NULL OR inputs_deleted_at IS NOT NULL"
    )
    due = sa.text("inputs_deleted_at IS NOT NULL AND receipt IS NULL")
    op.create_index("ix_jobs_receipt_due", "jobs", ["inputs_deleted_at"], postgresql_where=due)


def downgrade() -> None:
    op.drop_index("ix_jobs_receipt_due", "jobs")
    op.drop_constraint(op.f("ck_jobs_receipt_after_deletion"), "jobs")
    op.drop_column("jobs", "receipt")
    op.drop_table("signing_keys")
