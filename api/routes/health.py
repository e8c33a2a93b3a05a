"""Whether the process lives and whether it can work; the only routes that need no API key."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api import readiness
from api.documentation import problems
from api.problems import Unavailable
from api.services import ServicesNeeded

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok", "ready"]


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Health:
    """Touches nothing else: an outage of the database is no reason to restart this process."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can it take requests?", responses=problems(Unavailable))
def readyz(services: ServicesNeeded) -> Health:
    """Checks Postgres and its migrations, Redis and the blob folder; `errors` names what isn't ready."""
    faults = readiness.faults(services)
    if faults:
        raise Unavailable("Not ready.", errors=faults)
    return Health(status="ready")
