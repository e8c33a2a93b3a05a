"""Fills the ledger with hundreds of thousands of jobs, their histories and metrics, made by SQL inside Postgres."""

from __future__ import annotations

import json
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text

from vgid_core.config import UnlearnConfig

# Every second job belongs to the bench's client. One job in a hundred is open. A few run, with leases of a day.
_JOBS = """
INSERT INTO jobs (id, client_id, state, phase, created_at, started_at, finished_at, model, config,
                  retain_set, forget_pairs, probes, external_id, subject_hash, legal_basis, job_metadata, request_hash,
                  idempotency_key, attempt, attempt_token, lease_expires_at, leads_since, last_progress_at, step,
                  total_steps, progress, loss_forget, loss_retain, wrapped_data_key, inputs_deleted_at, error_type,
                  error_detail)
SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN CAST(:client AS uuid) ELSE (
           SELECT id FROM clients WHERE name = 'other ' || n % 10) END,
       state, CASE WHEN state = 'running' THEN 'distilling' END, at, at,
       CASE WHEN ended THEN at + interval '1 min' END, 'model-' || n % 20, CAST(:config AS jsonb),
       'people', 24, '{"rephrased": 6}', 'DSR-' || n, md5('subject ' || n / 5) || md5('x'), 'GDPR Art. 17(1)(b)',
       '{"team": "privacy"}', md5(n::text) || md5('y'), 'key-' || n, CASE WHEN state = 'queued' THEN 0 ELSE 1 END,
       CASE WHEN state = 'running' THEN gen_random_uuid() END,
       CASE WHEN state = 'running' THEN now() + interval '1 day' END, CASE WHEN state = 'running' THEN at END,
       at, 60, 60, CASE WHEN state = 'succeeded' THEN 1 ELSE 0.4 END, 0.1, 0.01,
       CASE WHEN NOT ended THEN '\\x00'::bytea END, CASE WHEN ended THEN at END,
       CASE WHEN state = 'failed' THEN 'attempts-exhausted' END, CASE WHEN state = 'failed' THEN 'Given up.' END
FROM (SELECT n, now() - make_interval(mins => :count - n) AS at, state, state NOT IN ('queued', 'running') AS ended
      FROM (SELECT n, CASE WHEN n % 5000 = 0 THEN 'running' WHEN n % 100 = 0 THEN 'queued'
                           WHEN n % 30 = 1 THEN 'failed' WHEN n % 30 = 2 THEN 'cancelled' ELSE 'succeeded' END AS state
            FROM generate_series(CAST(:first AS integer), CAST(:count AS integer)) AS n) AS numbered) AS timed
"""
_HISTORY = """
INSERT INTO job_events (job_id, at, kind, data)
SELECT id, created_at + make_interval(secs => n), CASE WHEN n % 3 = 0 THEN 'phase' ELSE 'progress' END,
       jsonb_build_object('attempt', 1, 'phase', 'distilling', 'fraction', n / 12.0, 'step', n, 'total_steps', 60)
FROM jobs, generate_series(1, 12) AS n
WHERE NOT EXISTS (SELECT 1 FROM job_events WHERE job_id = jobs.id)
"""
_METRICS = """
INSERT INTO job_metrics (job_id, stage, split, name, value, pairs)
SELECT id, stage, split, name, 0.5, 24
FROM jobs, unnest(ARRAY['before', 'after']) AS stage, unnest(ARRAY['forget', 'rephrased', 'retain']) AS split,
     unnest(ARRAY['rouge_l', 'answer_probability']) AS name
WHERE state = 'succeeded' AND NOT EXISTS (SELECT 1 FROM job_metrics WHERE job_id = jobs.id)
"""
_ARTIFACTS = """
INSERT INTO artifacts (job_id, sha256, size_bytes, files, manifest)
SELECT id, md5(id::text) || md5('z'), 4000000, CAST(:files AS jsonb), '{"seed": 0}'
FROM jobs WHERE state = 'succeeded' AND NOT EXISTS (SELECT 1 FROM artifacts WHERE job_id = jobs.id)
"""
_FILES = [
    {"name": name, "sha256": "0" * 64, "size": 1000}
    for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md")
]


def fill(engine: Engine, client_id: UUID, count: int) -> None:
    """Adds jobs until the table holds `count`."""
    with engine.begin() as connection:
        connection.execute(text(
            "INSERT INTO clients (id, name) SELECT gen_random_uuid(), 'other ' || n FROM generate_series(1, 9, 2) AS n "
            "ON CONFLICT DO NOTHING"
        ))  # fmt: skip
        first = connection.execute(text("SELECT count(*) + 1 FROM jobs")).scalar_one()
        config = json.dumps(UnlearnConfig().model_dump(mode="json"))
        connection.execute(text(_JOBS), {"client": client_id, "config": config, "first": first, "count": count})
        connection.execute(text(_HISTORY))
        connection.execute(text(_METRICS))
        connection.execute(text(_ARTIFACTS), {"files": json.dumps(_FILES)})
    tidy(engine)


def store_ended(database_url: str, count: int) -> None:
    """As `fill`, but without open jobs, for the first client of a stack with a worker, which would run them."""
    engine = create_engine(database_url)
    unended = "(SELECT id FROM jobs WHERE state IN ('queued', 'running'))"
    with engine.begin() as connection:
        client_id = connection.execute(text("SELECT id FROM clients LIMIT 1")).scalar_one()
    fill(engine, client_id, count)
    with engine.begin() as connection:
        connection.execute(text(f"SELECT id FROM jobs WHERE id IN {unended} FOR UPDATE"))  # so no worker claims them
        for table in ("job_events", "job_metrics", "artifacts"):
            connection.execute(text(f"DELETE FROM {table} WHERE job_id IN {unended}"))
        connection.execute(text(f"DELETE FROM jobs WHERE id IN {unended}"))
        stored = connection.execute(text("SELECT count(*) FROM jobs")).scalar_one()
    engine.dispose()
    print(f"{stored} ended jobs stored", flush=True)


def tidy(engine: Engine) -> None:
    """Vacuums and analyses at once, since a bench would otherwise start before autovacuum has done it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def drop_submitted(engine: Engine) -> int:
    """Deletes the jobs that the bench has submitted over HTTP, so that the table holds the stated number again."""
    with engine.begin() as connection:
        submitted = "SELECT id FROM jobs WHERE model = 'demo' AND state = 'queued'"
        connection.execute(text(f"DELETE FROM job_events WHERE job_id IN ({submitted})"))
        return connection.execute(text("DELETE FROM jobs WHERE model = 'demo' AND state = 'queued'")).rowcount


def ids_of(connection: Connection, client_id: UUID, state: str, most: int) -> list[UUID]:
    """At most `most` of the client's jobs in a state, from all parts of the table."""
    query = "SELECT id FROM jobs WHERE client_id = :client AND state = :state ORDER BY md5(id::text) LIMIT :most"
    return list(connection.execute(text(query), {"client": client_id, "state": state, "most": most}).scalars())
