"""Renames the error type `poison` to `attempts-exhausted`, in the jobs' rows and in their histories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _rename("poison", "attempts-exhausted")


def downgrade() -> None:
    _rename("attempts-exhausted", "poison")


def _rename(old: str, new: str) -> None:
    rows = sa.text("UPDATE jobs SET error_type = :new WHERE error_type = :old")
    # Only a failed job's last state event names an error.
    history = sa.text(
        "UPDATE job_events SET data = jsonb_set(data, '{error_type}', to_jsonb(CAST(:new AS text))) FROM jobs "
        "WHERE jobs.id = job_events.job_id AND jobs.error_type = :new "
        "AND kind = 'state' AND data ->> 'error_type' = :old"
    )
    for statement in (rows, history):
        op.get_bind().execute(statement, {"old": old, "new": new})
