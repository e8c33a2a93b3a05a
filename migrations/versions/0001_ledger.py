"""Creates the ledger: clients and their keys, jobs with their history and metrics, artifacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="pk_clients"),
        sa.UniqueConstraint("name", name="uq_clients_name"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        _created_at(),
        _time("revoked_at"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_api_keys_client_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    op.create_index("ix_api_keys_client_id", "api_keys", ["client_id"])
    op.create_table("jobs", *_request_columns(), *_run_columns(), *_job_constraints())
    _create_job_indexes()
    _create_outcome_tables()


def downgrade() -> None:
    for table in ("job_metrics", "job_events", "artifacts", "jobs", "api_keys", "clients"):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _created_at() -> sa.Column[object]:
    return _time("created_at", nullable=False)


def _request_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(16)),
        _created_at(),
        _time("updated_at", nullable=False),
        _time("started_at"),
        _time("finished_at"),
        _time("published_at", nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("config", JSONB(), nullable=False),
        sa.Column("retain_set", sa.Text()),
        sa.Column("forget_pairs", sa.Integer(), nullable=False),
        sa.Column("retain_pairs", sa.Integer()),
        sa.Column("probes", JSONB(), nullable=False),
        sa.Column("external_id", sa.Text()),
        sa.Column("subject_hash", sa.String(64)),
        sa.Column("legal_basis", sa.Text()),
        _time("due_at"),
        sa.Column("job_metadata", JSONB(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("request_hash", sa.String(64), nullable=False),
    ]


def _run_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempt_token", sa.Uuid()),
        sa.Column("worker", sa.Text()),
        _time("lease_expires_at"),
        _time("cancel_requested_at"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("total_steps", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("loss_forget", sa.Double()),
        sa.Column("loss_retain", sa.Double()),
        _time("estimated_finish_at"),
        _time("last_progress_at"),
        sa.Column("wrapped_data_key", sa.LargeBinary()),
        _time("inputs_deleted_at"),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_detail", sa.Text()),
        sa.Column("stop_reason", sa.Text()),
    ]


def _job_constraints() -> list[sa.Constraint]:
    checks = {
        "state": "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
        "phase": "phase IN ('loading', 'baseline', 'distilling', 'evaluating', 'packaging')",
        "progress_range": "progress BETWEEN 0 AND 1",
        "attempt_range": "attempt >= 0",
        "token_while_running": "(state = 'running') = (attempt_token IS NOT NULL)",
        "lease_with_token": "(attempt_token IS NULL) = (lease_expires_at IS NULL)",
        "key_until_end": "(state IN ('queued', 'running')) = (wrapped_data_key IS NOT NULL)",
        "finished_at_end": "(state IN ('queued', 'running')) = (finished_at IS NULL)",
        "error_when_failed": "(state = 'failed') = (error_type IS NOT NULL)",
    }
    return [
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_jobs_client_id"),
        sa.UniqueConstraint("client_id", "idempotency_key", name="uq_jobs_client_id_idempotency_key"),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_jobs_{name}")) for name, rule in checks.items()),
    ]


def _create_job_indexes() -> None:
    op.create_index("ix_jobs_newest", "jobs", ["client_id", sa.text("created_at DESC"), sa.text("id DESC")])
    for column in ("external_id", "subject_hash"):
        given = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_jobs_{column}", "jobs", ["client_id", column], postgresql_where=given)
    is_open = sa.text("state IN ('queued', 'running')")
    op.create_index("ix_jobs_open", "jobs", ["state", "published_at"], postgresql_where=is_open)
    remain = sa.text("inputs_deleted_at IS NULL")
    op.create_index("ix_jobs_inputs_remain", "jobs", ["finished_at"], postgresql_where=remain)


def _create_outcome_tables() -> None:
    op.create_table(
        "artifacts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", JSONB(), nullable=False),
        sa.Column("manifest", JSONB(), nullable=False),
        _created_at(),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_artifacts_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_artifacts"),
    )
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"])
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        _time("at", nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.CheckConstraint("kind IN ('state', 'phase', 'progress', 'metrics')", name=op.f("ck_job_events_kind")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_job_events"),
    )
    op.create_index("ix_job_events_history", "job_events", ["job_id", "id"])
    op.create_table(
        "job_metrics",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.CheckConstraint("stage IN ('before', 'after')", name=op.f("ck_job_metrics_stage")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metrics_job_id"),
        sa.PrimaryKeyConstraint("job_id", "stage", "split", "name", name="pk_job_metrics"),
    )
