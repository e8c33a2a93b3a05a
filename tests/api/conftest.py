"""The real application on a real socket. Tests play the worker, by writing to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.limits.connections import bounded_protocol
from api.main import create_app
from api.server import limits_of
from jobs.settings import Settings
from migrations.roles import Room
from tests.api.service import Service
from tests.roles import in_role
from tests.serving import serving

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


@pytest.fixture
def serve(request: pytest.FixtureRequest, server_loop: asyncio.AbstractEventLoop) -> Iterator[Serve]:
    """Starts services under the API's database role, and stops them after the test."""
    with ExitStack() as running:

        def start(settings: Settings) -> Service:
            http = getattr(request, "param", None) or bounded_protocol(limits_of(settings, open_files=4096))
            app = create_app(in_role(settings, Room.api))
            config = uvicorn.Config(app, port=0, http=http, ws="none", lifespan="on", log_config=None, access_log=False)
            service = Service(f"http://127.0.0.1:{running.enter_context(serving(config, server_loop))}", settings)
            running.callback(service.close)
            return service

        yield start


@pytest.fixture
def service(serve: Serve, settings: Settings) -> Service:
    return serve(settings)


@pytest.fixture
def http(service: Service) -> httpx.Client:
    """The first client of `service`, with its key."""
    return service.http
