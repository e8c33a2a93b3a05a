"""The pool of connections to Postgres."""

from __future__ import annotations

from sqlalchemy import text

from jobs.database import POOL_SIZE, autocommit_engine, make_engine, session_factory
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres


def test_closed_connections_are_replaced(settings: Settings, postgres: EmbeddedPostgres) -> None:
    engine = make_engine(settings)
    for sessions in (session_factory(engine), session_factory(autocommit_engine(engine))):
        opened = [sessions() for _ in range(POOL_SIZE)]
        for s in opened:
            s.execute(text("SELECT 1"))
        for s in opened:
            s.close()
        with postgres.connect() as connection:
            ours = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            ended = connection.execute(ours, [engine.url.database]).fetchall()
        assert len(ended) == POOL_SIZE
        for _ in range(POOL_SIZE):
            with sessions() as s:
                assert s.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_an_autocommit_session_leaves_no_transaction_open(settings: Settings) -> None:
    engine = make_engine(settings)
    query = text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
    with session_factory(autocommit_engine(engine))() as reading, session_factory(engine)() as other:
        pid = reading.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert other.execute(query, {"pid": pid}).scalar_one() == "idle"
    engine.dispose()
