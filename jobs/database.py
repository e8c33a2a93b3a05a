"""The connection to Postgres. A process has one engine, and callers use short transactions: `with sessions.begin()`."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from jobs.settings import Settings

SessionFactory = sessionmaker[Session]

POOL_SIZE = 15

_CONNECT_SECONDS = 5
_POOL_SECONDS = 30
# A peer that is gone without a word is noticed within a minute, also while nothing is asked.
_DEAD_PEERS = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}

Answer = TypeVar("Answer")


class _ImpatientConnection(psycopg.Connection[Any]):
    """A connection that is closed once the server is silent for so many seconds.

    `statement_timeout` is kept by the server: one that is frozen doesn't keep it, and its kernel still holds the line.
    """

    seconds: float

    def wait(self, gen: Generator[Any, Any, Answer], *given: Any, **named: Any) -> Answer:
        """Waits for the server's answer. Raises OperationalError."""
        return super().wait(self._bounded(gen), *given, **named)

    def _bounded(self, gen: Generator[Any, Any, Answer]) -> Generator[Any, Any, Answer]:
        until = monotonic() + self.seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server is silent")
                wanted = gen.send(ready)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


def make_engine(settings: Settings, *, answer_seconds: float | None = None) -> Engine:
    """Creates a pooled engine that replaces closed connections. Connecting gives up after 5 seconds.

    answer_seconds: gives up a statement, too, and the wait for a connection, as OperationalError or TimeoutError.

    A process that freezes within a transaction keeps its rows locked. Nobody could then renew the lease, cancel the
    job or requeue it. So Postgres ends a transaction that is idle for a whole lease.
    """
    engine = create_engine(
        settings.database_url,
        # SQLAlchemy closes overflow connections on return, so each further request would open one again.
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=_POOL_SECONDS if answer_seconds is None else answer_seconds,
        hide_parameters=True,  # an error message mustn't quote a statement's parameters: they can be personal data
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "vgid", **_DEAD_PEERS},
    )
    set_timeout = f"SET idle_in_transaction_session_timeout = {round(settings.lease_seconds * 1000)}"
    if answer_seconds is not None:
        _bound_answers(engine, answer_seconds)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(set_timeout)
            # Every statement takes milliseconds at most, and compiling one takes longer.
            cursor.execute("SET jit = off")
        connection.commit()

    return engine


def _bound_answers(engine: Engine, seconds: float) -> None:
    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, given: list[Any], named: dict[str, Any]) -> _ImpatientConnection:
        connection = _ImpatientConnection.connect(*given, **named)
        connection.seconds = seconds
        return connection

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {round(seconds * 1000)}")
        connection.commit()


def session_factory(engine: Engine) -> SessionFactory:
    """Creates a factory of sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


def autocommit_engine(engine: Engine) -> Engine:
    """The same pool for sessions that only read. Each statement is its own transaction, which saves BEGIN and ROLLBACK.

    Isolation stays the same: under READ COMMITTED, every statement sees a snapshot of its own anyway.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")
