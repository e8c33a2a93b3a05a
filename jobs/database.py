"""The way to Postgres: one engine a process, one short transaction at each edge (`with sessions.begin() as s`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from jobs.settings import Settings

SessionFactory = sessionmaker[Session]

POOL_SIZE = 15


def make_engine(settings: Settings) -> Engine:
    """A pooled engine that notices connections the server has closed. Connecting gives up after 5 seconds.

    A process that freezes within a transaction would hold its rows for ever, and with them whoever wants to renew the
    lease, cancel, or give the job to another attempt: the server ends a transaction that is silent for a whole lease.
    """
    engine = create_engine(
        settings.database_url,
        # an overflow's connections would be closed as soon as they come back, and opened again for the next request
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # statement parameters in an error message could be personal data
        connect_args={"connect_timeout": 5, "application_name": "vgid"},
    )
    silence = f"SET idle_in_transaction_session_timeout = {round(settings.lease_seconds * 1000)}"

    @event.listens_for(engine, "connect")
    def limit_silence(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(silence)
        connection.commit()

    return engine


def session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


def reading_engine(engine: Engine) -> Engine:
    """The same pool for those who only read: each statement is its own transaction, which saves BEGIN and ROLLBACK.

    The isolation is that of any other session here: under READ COMMITTED every statement sees its own snapshot anyway.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")
