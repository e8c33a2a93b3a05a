"""Liveness and readiness: the only routes that need no API key."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from typing import Literal

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.openapi import problem_responses
from api.problems import FieldError, Unavailable
from api.routing import Router
from api.services import Condition, Services, ServicesDep
from jobs.queueing.queue import QueueUnavailable
from migrations.runner import alembic_config

router = Router(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok", "ready"]


class Readiness(Health):
    """Requests are taken. What keeps workers from taking jobs, if anything does, stands beside."""

    paused_workers: dict[str, int] = Field(
        default_factory=dict, description="how many workers take no job, by reason, such as `disk-full`"
    )


@router.get("/healthz", operation_id="check_alive", summary="Does the process live?")
async def healthz() -> Health:
    """Touches nothing else: an outage of the database is no reason to restart this process."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="check_ready",
    summary="Can it take requests?",
    responses=problem_responses(Unavailable),
)
async def readyz(services: ServicesDep) -> Readiness:
    """Checks Postgres and its migrations, Redis and the blob folder; `errors` names what isn't ready.

    What was found is the answer for a second, so that asking often costs nothing.
    """
    condition = await services.condition.get(lambda: _condition(services))
    faults = [FieldError(fault, name=part) for part, fault in condition.faults.items() if fault is not None]
    if faults:
        raise Unavailable("Not ready.", errors=faults)
    return Readiness(status="ready", paused_workers=condition.paused_workers)


def _condition(services: Services) -> Condition:
    faults = not_ready(services)
    return Condition(faults, {} if faults["redis"] else Counter(services.queue.pauses()))


def not_ready(services: Services) -> dict[str, str | None]:
    """Of each part that requests need, what is the matter with it; None where nothing is."""
    return {"postgres": _check_postgres(services), "redis": _check_redis(services), "blobs": _check_blobs(services)}


def _check_postgres(services: Services) -> str | None:
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


def _check_redis(services: Services) -> str | None:
    try:
        services.queue.ping()
    except QueueUnavailable:
        return "can't be reached"
    return None


def _check_blobs(services: Services) -> str | None:
    folder = services.settings.blob_dir
    return None if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "the folder can't be written"
