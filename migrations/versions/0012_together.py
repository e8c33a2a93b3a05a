"""Lets several requests take part in one run of a line, and a line be rebuilt from the base."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_RUNNING = "state = 'running' AND kind = 'unlearn'"
_OPEN = "state IN ('queued', 'running')"
# The newest release of the same base, up to the row's own, that was checked for the job; else the row's own.
_CHECKED_IN = """
    UPDATE release_jobs AS held SET checked_in = coalesce((
        SELECT max(earlier.number)
        FROM release_jobs AS checked JOIN releases AS earlier ON earlier.id = checked.release_id
        WHERE checked.job_id = held.job_id AND checked.still_forgotten AND earlier.base_digest = own.base_digest
        AND earlier.model = own.model AND earlier.number <= own.number AND earlier.current_at IS NOT NULL
    ), own.number)
    FROM releases AS own WHERE own.id = held.release_id
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("run_of", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_run_of"), "jobs", "jobs", ["run_of"], ["id"])
    op.add_column("jobs", sa.Column("runs_alone", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("jobs", sa.Column("kit_whole", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_check_constraint(op.f("ck_jobs_run_of_claimed"), "jobs", "run_of IS NULL OR state != 'queued'")
    _line_index("state = 'running' AND kind IN ('unlearn', 'rebuild') AND run_of IS NULL")
    _rules(
        "kind IN ('unlearn', 'evaluate', 'rebuild')",
        f"({_OPEN} AND kind != 'rebuild') = (wrapped_data_key IS NOT NULL)",
        "kind = 'evaluate' OR state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'",
    )
    op.create_index(
        "uq_jobs_rebuild", "jobs", ["model"], unique=True, postgresql_where=sa.text(f"kind = 'rebuild' AND {_OPEN}")
    )
    op.add_column("releases", sa.Column("replaces_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_releases_replaces_id"), "releases", "releases", ["replaces_id"], ["id"])
    op.execute("UPDATE releases SET replaces_id = parent_id")
    op.add_column("release_jobs", sa.Column("checked_in", sa.Integer(), nullable=True))
    op.execute(_CHECKED_IN)
    op.alter_column("release_jobs", "checked_in", nullable=False)
    op.create_index(
        "ix_jobs_joinable",
        "jobs",
        ["model", "retain_set", "due_at", sa.text("priority DESC"), "created_at", "id"],
        postgresql_where=sa.text("state = 'queued' AND kind = 'unlearn' AND retain_pairs IS NULL AND NOT runs_alone"),
    )


def downgrade() -> None:
    found = op.get_bind().scalar(sa.text("SELECT count(*) FROM jobs WHERE kind = 'rebuild'"))
    if found:
        raise RuntimeError(f"{found} rebuilds were ordered, which older versions can't tell from requests")
    # Whoever takes part in another job's run starts again by itself.
    op.execute(
        "UPDATE jobs SET state = 'queued', phase = NULL, attempt_token = NULL, lease_expires_at = NULL, run_of = NULL, "
        "attempt = greatest(attempt - 1, 0), step = 0, progress = 0 WHERE state = 'running' AND run_of IS NOT NULL"
    )
    op.drop_column("release_jobs", "checked_in")
    op.drop_column("releases", "replaces_id")
    op.drop_index("uq_jobs_rebuild", "jobs")
    _rules(
        "kind IN ('unlearn', 'evaluate')",
        f"({_OPEN}) = (wrapped_data_key IS NOT NULL)",
        "kind != 'unlearn' OR state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'",
    )
    op.drop_index("ix_jobs_joinable", "jobs")
    _line_index(_RUNNING)
    op.drop_column("jobs", "kit_whole")
    op.drop_column("jobs", "runs_alone")
    op.drop_column("jobs", "run_of")


def _rules(kinds: str, key: str, success: str) -> None:
    for name, rule in (("kind", kinds), ("key_until_end", key), ("success_is_forgotten", success)):
        op.drop_constraint(op.f(f"ck_jobs_{name}"), "jobs")
        op.create_check_constraint(op.f(f"ck_jobs_{name}"), "jobs", rule)


def _line_index(which: str) -> None:
    op.drop_index("uq_jobs_line", "jobs")
    op.create_index("uq_jobs_line", "jobs", ["model"], unique=True, postgresql_where=sa.text(which))
