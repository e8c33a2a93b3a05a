"""The migrations: they build exactly the tables in the code, and several processes may run them at once."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from jobs.settings import normalised_url
from jobs.tables import Base
from local.postgres import EmbeddedPostgres
from migrations.runner import alembic_config, upgrade


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        made.append(f"empty_{uuid.uuid4().hex}")
        with postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {made[-1]}")
        return normalised_url(postgres.url_of(made[-1]))

    yield make
    with postgres.connect() as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def definitions(url: str) -> dict[str, set[tuple[object, ...]]]:
    """The database's columns, constraints and indexes as Postgres itself writes them."""
    queries = {
        "columns": "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%'",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    }
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return {name: {tuple(row) for row in connection.execute(text(query))} for name, query in queries.items()}
    finally:
        engine.dispose()


def test_alembic_sees_no_drift(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_migrations_and_tables_give_the_same_database(database_url: str, empty_database: Callable[[], str]) -> None:
    described = empty_database()
    engine = create_engine(described)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert definitions(normalised_url(database_url)) == definitions(described)


def test_several_processes_may_upgrade_at_once(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    script = "import sys; from migrations.runner import upgrade; upgrade(sys.argv[1])"
    arguments = [sys.executable, "-W", "error", "-c", script, url]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: subprocess.run(arguments, timeout=60).returncode, range(3)))
    assert runs == [0, 0, 0]
    command.check(alembic_config(url))


def test_downgrading_leaves_nothing(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    upgrade(url)
    command.downgrade(alembic_config(url), "base")
    assert definitions(url) == {"columns": set(), "constraints": set(), "indexes": set()}
    upgrade(url)


_EXHAUSTED_JOB = """
INSERT INTO clients (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'acme');
INSERT INTO jobs (id, client_id, state, finished_at, error_type, model, config, forget_pairs, probes, job_metadata,
                  request_hash, attempt, step, total_steps, progress)
VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'failed', now(), 'poison',
        'demo', '{}', 1, '{}', '{}', '', 3, 0, 0, 0);
INSERT INTO job_events (id, job_id, kind, data) VALUES
    (1, '00000000-0000-0000-0000-000000000002', 'state', '{"state": "running", "attempt": 3}'),
    (2, '00000000-0000-0000-0000-000000000002', 'state', '{"state": "failed", "attempt": 3, "error_type": "poison"}');
"""


def test_the_error_type_of_exhausted_jobs_is_renamed(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    config = alembic_config(url)
    command.upgrade(config, "0002")
    engine = create_engine(url)

    def errors() -> list[str | None]:
        query = "SELECT error_type FROM jobs UNION ALL (SELECT data ->> 'error_type' FROM job_events ORDER BY id)"
        with engine.connect() as connection:
            return list(connection.execute(text(query)).scalars())

    with engine.begin() as connection:
        connection.execute(text(_EXHAUSTED_JOB.replace(":", r"\:")))

    command.upgrade(config, "0003")
    assert errors() == ["attempts-exhausted", None, "attempts-exhausted"]
    command.downgrade(config, "0002")
    assert errors() == ["poison", None, "poison"]
    engine.dispose()


_STARTED_JOBS = """
INSERT INTO clients (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'acme'), (gen_random_uuid(), 'idle');
INSERT INTO jobs (id, client_id, state, wrapped_data_key, started_at, model, config, forget_pairs, probes, job_metadata,
                  request_hash, attempt, step, total_steps, progress)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'queued', '', at, 'demo', '{}', 1, '{}', '{}', '',
       0, 0, 0, 0
FROM (VALUES ('2030-01-01'), ('2030-01-02'), (NULL)) AS times (text), CAST(text AS timestamptz) AS at;
"""


def test_clients_of_a_full_ledger_keep_their_turns(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    config = alembic_config(url)
    command.upgrade(config, "0003")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(_STARTED_JOBS))

    command.upgrade(config, "0004")

    clients = "SELECT name, last_started_at = '2030-01-02'::timestamptz, limits FROM clients ORDER BY name"
    with engine.connect() as connection:
        assert connection.execute(text(clients.replace("::", r"\:\:"))).all() == [
            ("acme", True, {}),
            ("idle", None, {}),
        ]
        assert connection.execute(text("SELECT DISTINCT priority FROM jobs")).scalars().all() == [0]
    command.downgrade(config, "0003")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(published_at) FROM jobs")).scalar_one() == 3
    engine.dispose()


_EVALUATED = """
INSERT INTO clients (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'acme');
INSERT INTO jobs (id, client_id, state, finished_at, model, config, forget_pairs, probes, job_metadata, request_hash,
                  attempt, step, total_steps, progress, outcome)
SELECT id, '00000000-0000-0000-0000-000000000001', 'succeeded', now(), 'demo', '{}', 1, '{}', '{}', '', 1, 0, 0, 1,
       'forgotten'
FROM (VALUES ('00000000-0000-0000-0000-000000000002'::uuid), ('00000000-0000-0000-0000-000000000003')) AS ids (id);
INSERT INTO artifacts (job_id, sha256, size_bytes, files, manifest, evidence)
SELECT id, '', 1, '[]', '{}',
       CASE id WHEN '00000000-0000-0000-0000-000000000002' THEN '{"level": "quick"}'::jsonb ELSE 'null' END
FROM jobs;
"""
_AN_EVALUATION = """
INSERT INTO jobs (id, client_id, kind, adapter_of, state, finished_at, model, config, forget_pairs, probes,
                  job_metadata, request_hash, attempt, step, total_steps, progress, outcome)
SELECT '00000000-0000-0000-0000-000000000004', client_id, 'evaluate', id, state, finished_at, model, config,
       forget_pairs, probes, job_metadata, request_hash, attempt, step, total_steps, progress, 'targets-not-met'
FROM jobs LIMIT 1;
INSERT INTO job_evidence (job_id, document) VALUES ('00000000-0000-0000-0000-000000000004', '{"level": "full"}');
INSERT INTO job_events (id, job_id, kind, data) VALUES (1, '00000000-0000-0000-0000-000000000004', 'state', '{}');
INSERT INTO job_metrics (job_id, stage, split, name, value, pairs)
VALUES ('00000000-0000-0000-0000-000000000004', 'before', 'forget', 'rouge_l', 1, 1);
"""


def test_evidence_moves_to_its_own_table_and_back(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    config = alembic_config(url)
    command.upgrade(config, "0009")
    engine = create_engine(url)

    def run(statements: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(statements)

    def rows(query: str) -> list[object]:
        with engine.connect() as connection:
            return list(connection.execute(text(query)).scalars())

    run(_EVALUATED)
    command.upgrade(config, "0010")
    assert rows("SELECT document FROM job_evidence") == [{"level": "quick"}]
    assert rows("SELECT kind FROM jobs") == ["unlearn", "unlearn"]
    run(_AN_EVALUATION)
    command.downgrade(config, "0009")
    assert rows("SELECT evidence FROM artifacts ORDER BY job_id") == [{"level": "quick"}, None]
    assert len(rows("SELECT id FROM jobs")) == 2, "an evaluation has no place before"
    engine.dispose()


_A_RELEASE = """
INSERT INTO clients (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'acme');
INSERT INTO api_keys (id, client_id, prefix, secret_hash)
VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'vgid_12345678', 'hash');
INSERT INTO jobs (id, client_id, state, finished_at, model, config, forget_pairs, probes, job_metadata, request_hash,
                  attempt, step, total_steps, progress, outcome)
VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'succeeded', now(), 'demo',
        '{}', 1, '{}', '{}', '', 1, 0, 0, 1, 'forgotten');
INSERT INTO releases (id, model, base_digest, number, job_id, state, adapter_sha256, rank, current_at)
VALUES (gen_random_uuid(), 'demo', '', 1, '00000000-0000-0000-0000-000000000002', 'current', '', 4, now());
"""


def test_what_there_is_belongs_to_the_shared_line_and_keys_have_no_right(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    config = alembic_config(url)
    command.upgrade(config, "0012")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(_A_RELEASE)
    command.upgrade(config, "0015")
    found = "SELECT r.line, j.line, r.zip_sha256, k.rights FROM releases r, jobs j, api_keys k"
    with engine.connect() as connection:
        assert connection.execute(text(found)).all() == [("", "", None, [])]
    with pytest.raises(IntegrityError, match="known_rights"), engine.begin() as connection:
        connection.execute(text("UPDATE api_keys SET rights = '{rule}'"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET line = client_id"))
    with pytest.raises(RuntimeError, match="1 jobs are of lines that one client has for itself"):
        command.downgrade(config, "0012")
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET line = ''"))
    command.downgrade(config, "0012")
    engine.dispose()


_GOING_FIRST = """
INSERT INTO clients (id, name, last_started_at) VALUES ('00000000-0000-0000-0000-000000000001', 'acme', '2030-01-01');
INSERT INTO jobs (id, client_id, created_at, state, goes_first, attempt_token, lease_expires_at, wrapped_data_key,
                  model, config, forget_pairs, probes, job_metadata, request_hash, attempt, step, total_steps, progress)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', at::timestamptz, state, first,
       CASE WHEN state = 'running' THEN gen_random_uuid() END, CASE WHEN state = 'running' THEN now() END, '', 'demo',
       '{}', 1, '{}', '{}', '', 0, 0, 0, 0
FROM (VALUES ('2030-01-01', 'running', false), ('2030-01-02', 'queued', true), ('2030-01-03', 'queued', true))
     AS jobs (at, state, first);
"""


def test_of_a_clients_jobs_that_go_first_the_oldest_still_does_and_what_runs_counts_from_now_on(
    empty_database: Callable[[], str],
) -> None:
    url = empty_database()
    config = alembic_config(url)
    command.upgrade(config, "0015")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(_GOING_FIRST)
    command.upgrade(config, "0016")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT goes_first, leads_since IS NULL FROM jobs ORDER BY created_at")).all()
        assert found == [(False, False), (True, True), (False, True)]
        assert connection.execute(text("SELECT extract(year FROM turn_at) FROM clients")).scalar_one() == 2030
    command.downgrade(config, "0015")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(last_started_at) FROM clients")).scalar_one() == 1
    engine.dispose()


def test_a_password_may_hold_any_character() -> None:
    url = "postgresql://vgid:p%25%40ss@db/vgid"
    assert alembic_config(url).attributes["database_url"] == "postgresql+psycopg://vgid:p%25%40ss@db/vgid"
