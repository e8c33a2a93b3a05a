"""A database that hangs: it holds its connections and answers nothing. Callers get 503, and it goes on by itself."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio
import httpx
import psutil
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.responses import StreamingResponse

from api.limits.deadline import Deadline, lift_deadline
from jobs.database import make_engine
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from tests.api.conftest import Serve
from tests.api.service import body, problem
from tests.waiting import eventually


@contextmanager
def frozen(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Stops the server and all its sessions, until the block ends."""
    assert postgres.process is not None
    server = psutil.Process(postgres.process.pid)
    processes = [server, *server.children(recursive=True)]
    try:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_a_database_that_hangs_is_answered_with_503(
    serve: Serve, settings: Settings, postgres: EmbeddedPostgres
) -> None:
    service = serve(settings.model_copy(update={"database_seconds": 0.5}))
    job_id = service.submit()

    def ask(number: int) -> httpx.Response:
        if number % 2:
            return service.http.post("/unlearn-jobs", json=body())
        return service.http.get(f"/unlearn-jobs/{job_id}")

    with ThreadPoolExecutor(20) as callers:
        list(callers.map(ask, range(0, 40, 2)))  # so that the pool holds open connections
        with frozen(postgres):
            for answer in callers.map(ask, range(20)):
                problem(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) > 0
    eventually(lambda: service.http.get(f"/unlearn-jobs/{job_id}").status_code == 200)
    assert service.http.post("/unlearn-jobs", json=body()).status_code == 202


def test_workers_wait_for_their_statements(settings: Settings) -> None:
    engine, impatient = make_engine(settings), make_engine(settings, answer_seconds=0.3)
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
        connection.execute(text("SELECT pg_sleep(0.6)"))
    with impatient.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("SELECT pg_sleep(60)"))
    for each in (engine, impatient):
        each.dispose()


@pytest.fixture
def slow() -> FastAPI:
    """An application whose routes take for ever, with a deadline."""
    app = FastAPI()
    app.add_middleware(Deadline, seconds=0.05)

    @app.get("/hangs")
    async def hangs() -> None:
        await anyio.sleep_forever()

    @app.get("/streams")
    async def streams() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            await anyio.sleep(0.2)
            yield b"b"

        return StreamingResponse(pieces())

    @app.get("/receives")
    async def receives(request: Request) -> str:
        lift_deadline(request)
        await anyio.sleep(0.2)
        return "received"

    return app


def test_an_answer_that_does_not_begin_in_time_is_503(slow: FastAPI) -> None:
    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(slow), base_url="http://vgid") as http:
            return await http.get(path)

    late = anyio.run(ask, "/hangs")
    assert (late.status_code, late.json()["type"]) == (503, "urn:vgid:problem:unavailable")
    assert late.headers["retry-after"]
    assert anyio.run(ask, "/streams").content == b"ab"
    assert anyio.run(ask, "/receives").json() == "received"
