"""Lets turns count the length of attempts, and at most one job of a client go first.

Attempts that run now count from the upgrade on. Of a client's jobs that go first the oldest keeps its place.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_LEADS = "(state = 'running' AND run_of IS NULL) = (leads_since IS NOT NULL)"
_GOES_FIRST = "goes_first AND state IN ('queued', 'running')"
_ONLY_THE_OLDEST = """
UPDATE jobs SET goes_first = false
WHERE goes_first AND state IN ('queued', 'running') AND id NOT IN (
    SELECT DISTINCT ON (client_id) id FROM jobs
    WHERE goes_first AND state IN ('queued', 'running') ORDER BY client_id, created_at, id
)
"""


def upgrade() -> None:
    op.alter_column("clients", "last_started_at", new_column_name="turn_at")
    op.add_column("jobs", sa.Column("leads_since", sa.DateTime(timezone=True)))
    op.execute("UPDATE jobs SET leads_since = now() WHERE state = 'running' AND run_of IS NULL")
    op.create_check_constraint(op.f("ck_jobs_leads_while_running"), "jobs", _LEADS)
    op.execute(_ONLY_THE_OLDEST)
    op.drop_index("ix_jobs_goes_first", "jobs")
    op.create_index("uq_jobs_goes_first", "jobs", ["client_id"], unique=True, postgresql_where=sa.text(_GOES_FIRST))


def downgrade() -> None:
    op.drop_index("uq_jobs_goes_first", "jobs")
    op.create_index(
        "ix_jobs_goes_first",
        "jobs",
        ["client_id", "created_at", "id"],
        postgresql_where=sa.text("state = 'queued' AND goes_first"),
    )
    op.drop_constraint(op.f("ck_jobs_leads_while_running"), "jobs")
    op.drop_column("jobs", "leads_since")
    op.alter_column("clients", "turn_at", new_column_name="last_started_at")
