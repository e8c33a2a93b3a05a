"""The way to Postgres: one engine a process, one short transaction at each edge (`with sessions.begin() as s`)."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker

if TYPE_CHECKING:
    from jobs.settings import Settings

SessionFactory = sessionmaker[Session]

POOL_SIZE = 15
_DRIVER = "postgresql+psycopg"


def normalised_url(database_url: str) -> str:
    """`database_url` with the psycopg 3 driver named. Raises ValueError unless it is a Postgres URL."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise ValueError("isn't a database URL such as postgresql://user:password@host/name") from None
    if url.drivername not in ("postgres", "postgresql", _DRIVER):
        raise ValueError("must start with postgresql:// (no other database is supported)")
    return url.set(drivername=_DRIVER).render_as_string(hide_password=False)


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
        hide_parameters=True,  # statement parameters in an error message could be personal data
        connect_args={"connect_timeout": 5, "application_name": "vgid"},
    )
    event.listen(engine, "checkout", _refuse_closed)
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


def _refuse_closed(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
    """Has the pool renewed when the server has hung up on an idle connection.

    Such a connection has something to read: the end of the stream. To look costs nothing, where the usual ping
    (`pool_pre_ping`) asks the server and waits for its answer each time.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError
