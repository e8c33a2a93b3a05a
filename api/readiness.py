"""Whether this process can do its work: what it needs is reachable and the database has the tables it expects."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from api.problems import FieldError
from api.services import Services
from jobs.queue import QueueUnavailable
from migrations.runner import alembic_config


def faults(services: Services) -> list[FieldError]:
    """What isn't ready, by name; empty when everything is. Takes some seconds when a service doesn't answer."""
    checks: dict[str, Callable[[Services], str | None]] = {"postgres": _postgres, "redis": _redis, "blobs": _blobs}
    found = [(name, check(services)) for name, check in checks.items()]
    return [FieldError(fault, name=name) for name, fault in found if fault is not None]


def _postgres(services: Services) -> str | None:
    try:
        with services.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_heads()
    except SQLAlchemyError:
        return "can't be reached"
    if set(current) != _newest_revisions(services.settings.database_url):
        return "has other migrations than this version needs: run `vgid database upgrade`"
    return None


@cache
def _newest_revisions(database_url: str) -> set[str]:
    return set(ScriptDirectory.from_config(alembic_config(database_url)).get_heads())


def _redis(services: Services) -> str | None:
    try:
        services.queue.ping()
    except QueueUnavailable:
        return "can't be reached"
    return None


def _blobs(services: Services) -> str | None:
    folder = services.settings.blob_dir
    return None if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "the folder can't be written"
