"""The connection to Postgres. A process has one engine, and callers use short transactions: `with sessions.begin()`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from jobs.settings import Settings

SessionFactory = sessionmaker[Session]

POOL_SIZE = 15


def make_engine(settings: Settings) -> Engine:
    """Creates a pooled engine that replaces closed connections. Connecting gives up after 5 seconds.

    A process that freezes within a transaction keeps its rows locked. Nobody could then renew the lease, cancel the
    job or requeue it. So Postgres ends a transaction that is idle for a whole lease.
    """
    engine = create_engine(
        settings.database_url,
        # SQLAlchemy closes overflow connections on return, so each further request would open one again.
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # an error message mustn't quote a statement's parameters: they can be personal data
        connect_args={"connect_timeout": 5, "application_name": "vgid"},
    )
    set_timeout = f"SET idle_in_transaction_session_timeout = {round(settings.lease_seconds * 1000)}"

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(set_timeout)
            # Every statement takes milliseconds at most, and compiling one takes longer.
            cursor.execute("SET jit = off")
        connection.commit()

    return engine


def session_factory(engine: Engine) -> SessionFactory:
    """Creates a factory of sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


def autocommit_engine(engine: Engine) -> Engine:
    """The same pool for sessions that only read. Each statement is its own transaction, which saves BEGIN and ROLLBACK.

    Isolation stays the same: under READ COMMITTED, every statement sees a snapshot of its own anyway.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")
