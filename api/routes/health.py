"""Liveness and readiness: the only routes that need no API key."""

from __future__ import annotations

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
from jobs.surroundings import Fault, storage_sign
from migrations.runner import alembic_config

router = Router(tags=["health"])

# Without it requests are stored all the same, and the workers' reapers wake workers once it is back.
_DISPENSABLE = {"redis"}


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok", "ready", "degraded"]


class Readiness(Health):
    """Requests are taken. `degraded`: something is lacking without which they wait longer.

    What keeps workers from taking jobs, if anything does, stands beside.
    """

    lacking: dict[str, str] = Field(
        default_factory=dict,
        description="what is the matter with a part, by its name: without `redis` jobs are stored and start once it is "
        "back, and quotas over time aren't counted",
    )
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
    """Checks Postgres and its migrations, Redis, and room in the blob folder; `errors` names what isn't ready.

    Without Redis alone it is `degraded`: requests are taken. What was found is the answer for a second, so that asking
    often costs nothing.
    """
    condition = await services.condition.get(lambda: _condition(services))
    lacking = {part: fault for part, fault in condition.faults.items() if fault is not None}
    if lacking.keys() - _DISPENSABLE:
        raise Unavailable("Not ready.", errors=[FieldError(fault, name=part) for part, fault in lacking.items()])
    status: Literal["ready", "degraded"] = "degraded" if lacking else "ready"
    return Readiness(status=status, lacking=lacking, paused_workers=condition.paused_workers)


def _condition(services: Services) -> Condition:
    faults = not_ready(services)
    return Condition(faults, {} if faults["redis"] else Counter(services.queue.pauses()))


def not_ready(services: Services) -> dict[str, str | None]:
    """Of each part that the service needs, what is the matter with it; None where nothing is."""
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
    try:
        services.blobs.require_room(services.settings.min_free_bytes)
    except OSError as error:
        sign = storage_sign(error)
        lack = "has too little free space" if sign.fault is Fault.disk_full else "can't be written"
        return f"the folder {lack}: {sign}"
    return None
