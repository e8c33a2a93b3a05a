"""The public keys by which anybody checks what this service has signed. It needs no API key."""

from __future__ import annotations

from fastapi import Response

from api.openapi import problem_responses
from api.problems import Unavailable
from api.routing import Router
from api.services import ServicesDep
from jobs.signing.keys import key_file
from vgid_verify import KeyFile

router = Router(tags=["keys"])

_MAX_AGE = "public, max-age=300"


@router.get(
    "/.well-known/vgid-keys.json",
    operation_id="get_signing_keys",
    summary="Get the public keys",
    responses=problem_responses(Unavailable),
)
def get_signing_keys(services: ServicesDep, response: Response) -> KeyFile:
    """All signing keys with their times, those included that sign no more. `vgid verify` reads this document."""
    response.headers["Cache-Control"] = _MAX_AGE
    with services.read_sessions() as s:
        return key_file(s, services.timestamp_roots)
