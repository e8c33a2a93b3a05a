"""Adds jobs that evaluate, and moves the evidence to a table of its own, since these have no artifact."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NEWEST = (sa.text("created_at DESC"), sa.text("id DESC"))
_DUE = (sa.text("coalesce(due_at, 'infinity'::timestamptz)"), "id")
_FORGOTTEN = "state != 'succeeded' OR outcome IS NULL OR outcome = 'forgotten'"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.String(16), server_default=sa.text("'unlearn'"), nullable=False))
    op.add_column("jobs", sa.Column("adapter_of", sa.Uuid(), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", "kind IN ('unlearn', 'evaluate')")
    op.create_unique_constraint("uq_jobs_client_id_id", "jobs", ["client_id", "id"])
    op.create_foreign_key("fk_jobs_adapter_of", "jobs", "jobs", ["client_id", "adapter_of"], ["client_id", "id"])
    op.create_check_constraint(op.f("ck_jobs_adapter_of_evaluation"), "jobs", "adapter_of IS NULL OR kind = 'evaluate'")
    op.drop_constraint(op.f("ck_jobs_success_is_forgotten"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_success_is_forgotten"), "jobs", f"kind != 'unlearn' OR {_FORGOTTEN}")
    op.create_check_constraint(
        op.f("ck_jobs_success_is_measured"),
        "jobs",
        "kind != 'evaluate' OR (state = 'succeeded') = (outcome IS NOT NULL)",
    )
    _index(["client_id", "kind"], ["model", "kind"])
    op.create_table(
        "job_evidence",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_evidence_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_evidence")),
    )
    # Artifacts of runs without audits hold a JSON null.
    op.execute(
        "INSERT INTO job_evidence (job_id, document) "
        "SELECT job_id, evidence FROM artifacts WHERE jsonb_typeof(evidence) = 'object'"
    )
    op.drop_column("artifacts", "evidence")


def downgrade() -> None:
    # The tables before know no evaluation. The reaper deletes the inputs of those that were open.
    op.execute("DELETE FROM job_events USING jobs WHERE jobs.id = job_id AND jobs.kind = 'evaluate'")
    op.execute("DELETE FROM job_metrics USING jobs WHERE jobs.id = job_id AND jobs.kind = 'evaluate'")
    op.execute("DELETE FROM job_evidence USING jobs WHERE jobs.id = job_id AND jobs.kind = 'evaluate'")
    op.execute("DELETE FROM jobs WHERE kind = 'evaluate'")
    op.add_column("artifacts", sa.Column("evidence", postgresql.JSONB(), nullable=True))
    op.execute(
        "UPDATE artifacts SET evidence = job_evidence.document FROM job_evidence "
        "WHERE job_evidence.job_id = artifacts.job_id"
    )
    op.drop_table("job_evidence")
    op.drop_constraint(op.f("ck_jobs_success_is_measured"), "jobs")
    op.drop_constraint(op.f("ck_jobs_success_is_forgotten"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_success_is_forgotten"), "jobs", _FORGOTTEN)
    op.drop_constraint(op.f("ck_jobs_adapter_of_evaluation"), "jobs")
    op.drop_constraint("fk_jobs_adapter_of", "jobs")
    op.drop_constraint("uq_jobs_client_id_id", "jobs")
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs")
    _index(["client_id"], ["model"])
    op.drop_column("jobs", "adapter_of")
    op.drop_column("jobs", "kind")


def _index(of_client: list[str], of_model: list[str]) -> None:
    """Makes the indexes of lists and durations again, with these columns in front."""
    for name in ("newest", "newest_in_state", "newest_of_model", "due", "succeeded"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
    op.create_index("ix_jobs_newest", "jobs", [*of_client, *_NEWEST])
    op.create_index("ix_jobs_newest_in_state", "jobs", [*of_client, "state", *_NEWEST])
    op.create_index("ix_jobs_newest_of_model", "jobs", [*of_client, "model", *_NEWEST])
    op.create_index("ix_jobs_due", "jobs", [*of_client, *_DUE])
    succeeded = sa.text("state = 'succeeded'")
    op.create_index("ix_jobs_succeeded", "jobs", [*of_model, sa.text("finished_at DESC")], postgresql_where=succeeded)
