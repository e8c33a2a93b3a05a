"""A quota that is used up: soon there again, it is waited for; otherwise the caller is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.clients import access
from jobs.clients.limits import ClientLimits
from tests.client.conftest import PAIRS, Service
from tests.serving import serving
from vgid_client import Client, QuotaExceeded


@contextmanager
def refusing(loop: asyncio.AbstractEventLoop, retry_after: int) -> Iterator[tuple[Client, list[int]]]:
    """A client of a server whose quota is used up at the first request alone, and the statuses that it has answered."""
    answered: list[int] = []

    async def models(_request: Request) -> Response:
        answered.append(200 if answered else 429)
        if answered[-1] == 200:
            return JSONResponse({"models": []})
        problem = {"type": "quota-exceeded", "status": 429, "detail": "used up"}
        return JSONResponse(problem, 429, {"Retry-After": str(retry_after)}, "application/problem+json")

    config = uvicorn.Config(Starlette(routes=[Route("/models", models)]), port=0, log_config=None)
    with serving(config, loop) as port, Client(f"http://127.0.0.1:{port}", "key") as client:
        yield client, answered


def test_a_quota_that_is_soon_there_again_is_waited_for(server_loop: asyncio.AbstractEventLoop) -> None:
    with refusing(server_loop, retry_after=1) as (client, answered):
        assert client.models() == []
    assert answered == [429, 200]


def test_a_quota_of_an_hour_is_not_waited_for(server_loop: asyncio.AbstractEventLoop) -> None:
    with refusing(server_loop, retry_after=3600) as (client, answered), pytest.raises(QuotaExceeded, match="used up"):
        client.models()
    assert answered == [429]


def test_the_services_own_refusal_is_understood(service: Service, client: Client) -> None:
    with service.sessions.begin() as s:
        tester = access.find_client(s, "tester")
        assert tester is not None
        access.set_limits(s, tester, ClientLimits(upload_bytes_per_hour=10))
    with pytest.raises(QuotaExceeded, match="bytes"):
        client.submit("tiny", PAIRS)
