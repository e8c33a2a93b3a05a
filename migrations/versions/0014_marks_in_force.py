"""Lets names count only where something confirms them, and tells how much of each registered set a job withholds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("marks", sa.Column("in_force", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.create_table(
        "withheld_pairs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("to_agree", sa.Integer(), nullable=False),
        sa.Column("of", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_withheld_pairs_job_id")),
        sa.PrimaryKeyConstraint("job_id", "place", name=op.f("pk_withheld_pairs")),
    )


def downgrade() -> None:
    op.drop_table("withheld_pairs")
    op.execute("DELETE FROM marks WHERE NOT in_force")
    op.drop_column("marks", "in_force")
