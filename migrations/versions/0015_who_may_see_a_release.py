"""Gives keys rights, releases a zip of their own, and lets each client have a line of its own.

What there is belongs to the line that all clients share. Releases that were made before have no zip of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_RUNNING = sa.text("state = 'running' AND kind IN ('unlearn', 'rebuild') AND run_of IS NULL")
_REBUILDING = sa.text("kind = 'rebuild' AND state IN ('queued', 'running')")
_CURRENT = sa.text("state = 'current'")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("rights", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.create_check_constraint(op.f("ck_api_keys_known_rights"), "api_keys", "rights <@ ARRAY['audit', 'serve']")
    for table in ("jobs", "releases"):
        op.add_column(table, sa.Column("line", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("releases", sa.Column("zip_sha256", sa.String(64), nullable=True))
    op.add_column("releases", sa.Column("zip_bytes", sa.BigInteger(), nullable=True))
    op.create_check_constraint(op.f("ck_releases_zip_whole"), "releases", "(zip_sha256 IS NULL) = (zip_bytes IS NULL)")
    op.drop_constraint(op.f("uq_releases_model_base_digest_number"), "releases")
    op.create_unique_constraint(
        op.f("uq_releases_model_line_base_digest_number"), "releases", ["model", "line", "base_digest", "number"]
    )
    _indexes(["model", "line"])


def downgrade() -> None:
    found = op.get_bind().scalar(sa.text("SELECT count(*) FROM jobs WHERE line != ''"))
    if found:
        raise RuntimeError(f"{found} jobs are of lines that one client has for itself, which older versions would join")
    _indexes(["model"])
    op.drop_constraint(op.f("uq_releases_model_line_base_digest_number"), "releases")
    op.create_unique_constraint(
        op.f("uq_releases_model_base_digest_number"), "releases", ["model", "base_digest", "number"]
    )
    for name in ("zip_sha256", "zip_bytes", "line"):
        op.drop_column("releases", name)
    op.drop_column("jobs", "line")
    op.drop_column("api_keys", "rights")


def _indexes(line: list[str]) -> None:
    """Makes the indexes again that keep a line to one of something, with these columns for the line."""
    for table, name, where in (
        ("jobs", "uq_jobs_line", _RUNNING),
        ("jobs", "uq_jobs_rebuild", _REBUILDING),
        ("releases", "uq_releases_current", _CURRENT),
    ):
        op.drop_index(name, table)
        op.create_index(name, table, line, unique=True, postgresql_where=where)
    op.drop_index("ix_jobs_by_priority", "jobs")
    op.create_index(
        "ix_jobs_by_priority",
        "jobs",
        ["client_id", sa.text("priority DESC"), "created_at", "id"],
        postgresql_include=[*line, "kind", "due_at"],
        postgresql_where=sa.text("state = 'queued'"),
    )
