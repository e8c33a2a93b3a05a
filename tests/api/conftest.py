"""The real application on a real socket. Tests play the worker, by writing to the ledger."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.limits.connections import bounded_protocol
from api.main import create_app
from api.server import limits_of
from jobs.settings import Settings
from tests.api.service import Service
from tests.waiting import eventually

CATALOG = """
[models.demo]
path = "model"
title = "Demo model"
[models.demo.config]
method = "vgid"
[models.demo.config.training]
steps = 60
[models.demo.retain_sets.demo-retain]
retain = "retain.jsonl"

[models.bare]
path = "model"
title = "A model without retain sets"
max_pairs = 3

[models.rich]
path = "model"
title = "A model with two retain sets"
[models.rich.retain_sets.people]
retain = "retain.jsonl"
[models.rich.retain_sets.places]
retain = "retain.jsonl"
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with three models and small limits."""
    folder: Path = settings.catalog.parent
    (folder / "model").mkdir()
    (folder / "retain.jsonl").touch()
    settings.catalog.write_text(CATALOG)
    limits = {"max_body_bytes": 300_000, "max_pairs": 8, "max_image_bytes": 60_000, "max_image_pixels": 10_000}
    return settings.model_copy(update=limits)


Serve = Callable[[Settings], Service]


@pytest.fixture(scope="session")
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread, on which all services of the session run: so they share the processes that check requests."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    loop, stop = started.result()
    yield loop
    loop.call_soon_threadsafe(stop.set)
    thread.join(timeout=20)


@pytest.fixture
def serve(request: pytest.FixtureRequest, event_loop: asyncio.AbstractEventLoop) -> Iterator[Serve]:
    """Starts services, and stops them after the test."""
    running: list[tuple[uvicorn.Server, Future[None], Service]] = []

    def start(settings: Settings) -> Service:
        app = create_app(settings)
        http = getattr(request, "param", None) or bounded_protocol(limits_of(settings, open_files=4096))
        config = uvicorn.Config(app, port=0, http=http, lifespan="on", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        ended = asyncio.run_coroutine_threadsafe(server.serve(), event_loop)
        eventually(lambda: server.started, every=0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        service = Service(f"http://127.0.0.1:{port}", settings)
        running.append((server, ended, service))
        return service

    yield start
    for server, ended, service in running:
        service.close()
        server.should_exit = True
        ended.result(timeout=20)


@pytest.fixture
def service(serve: Serve, settings: Settings) -> Service:
    return serve(settings)


@pytest.fixture
def http(service: Service) -> httpx.Client:
    """The first client of `service`, with its key."""
    return service.http
