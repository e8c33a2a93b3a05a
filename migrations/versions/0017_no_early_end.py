"""Drops why a training stopped: it always does all its steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("jobs", "stop_reason")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("stop_reason", sa.Text()))
