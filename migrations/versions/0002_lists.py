"""Adds indexes for the lists filtered by state and by model, so that they are read in order too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    newest = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_jobs_newest_in_state", "jobs", ["client_id", "state", *newest])
    op.create_index("ix_jobs_newest_of_model", "jobs", ["client_id", "model", *newest])


def downgrade() -> None:
    op.drop_index("ix_jobs_newest_of_model", "jobs")
    op.drop_index("ix_jobs_newest_in_state", "jobs")
