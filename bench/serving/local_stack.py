"""A local stack for the benches, small jobs for it, and the commit times of their events from Postgres."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from bench.serving.stack import NO_QUOTA
from jobs.clients import access
from local.demo.data import make
from local.demo_catalog import ensure_catalog
from local.home import Home
from local.postgres import EmbeddedPostgres
from local.stack import Stack
from vgid_client import Client, Pair

Value = TypeVar("Value")

# When an event was committed. Its column `at` holds only when its transaction began.
_COMMITTED = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM job_events
WHERE job_id = %s AND kind = %s AND data ->> kind = %s ORDER BY id LIMIT 1
"""
_COUNTED = "SELECT count(*) FROM job_events WHERE job_id = %s AND kind = %s AND data ->> %s = %s"


def make_home(folder: Path) -> Home:
    """Makes a home with the demo's catalog, whose Postgres records when each transaction was committed."""
    home = Home(folder)
    with home.locked():
        ensure_catalog(home)
        with EmbeddedPostgres(home.postgres) as server, server.connect() as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    return home


@contextmanager
def served(home: Home, **settings: object) -> Iterator[tuple[Stack, Client]]:
    """Runs a stack with these settings (VGID_<NAME>), and opens a client."""
    given = {f"VGID_{name.upper()}": str(value) for name, value in settings.items()}
    before = dict(os.environ)
    os.environ.update(given)
    try:
        with Stack(home.folder) as stack, Client(stack.api_url, home.api_key.read_text().strip()) as client:
            with psycopg.connect(_plain_url(stack)) as connection:
                connection.execute("UPDATE clients SET limits = %s", [Jsonb(NO_QUOTA.differing())])
            yield stack, client
    finally:
        os.environ.clear()
        os.environ.update(before)


def submit(client: Client, steps: int) -> str:
    """Submits a small job with 16 of the demo's pairs. Returns its id."""
    pairs = [Pair(pair.image.data, pair.question, pair.answer) for pair in make().forget.pairs[:16]]
    return client.submit("demo", pairs, training={"steps": steps}).id


def commit_time(stack: Stack, job_id: str, kind: str, value: str) -> float | None:
    """When the job's first event of this kind and value was committed, in seconds. None if there is none yet."""
    with psycopg.connect(_plain_url(stack)) as connection:
        row = connection.execute(_COMMITTED, [job_id, kind, value]).fetchone()
    return None if row is None else float(row[0])


def count_events(stack: Stack, job_id: str, kind: str, value: str) -> int:
    """How many events of this kind and value the job has."""
    with psycopg.connect(_plain_url(stack)) as connection:
        row = connection.execute(_COUNTED, [job_id, kind, kind, value]).fetchone()
    return 0 if row is None else int(row[0])


def key_of_another(stack: Stack) -> str:
    """The key of a further client, which has no quota."""
    engine = create_engine(stack.database_url)
    with Session(engine) as s, s.begin():
        client = access.create_client(s, "another")
        access.set_limits(s, client, NO_QUOTA)
        key = access.create_key(s, client)[1]
    engine.dispose()
    return key


def _plain_url(stack: Stack) -> str:
    return stack.database_url.replace("+psycopg", "")


def until(condition: Callable[[], Value | None], what: str, seconds: float = 300.0) -> Value:
    """Waits until `condition` returns something else than None, and returns that. Raises TimeoutError."""
    deadline = monotonic() + seconds
    while (value := condition()) is None:
        if monotonic() > deadline:
            raise TimeoutError(what)
        sleep(0.05)
    return value
