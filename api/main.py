"""The HTTP service. Run it with `uvicorn --factory api.main:create_app_from_environment`."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from api.documentation import openapi_of, problems
from api.logs import configure_logging
from api.middleware import RequestContext
from api.problems import Unauthenticated, install_problem_handler
from api.routes import artifacts, events, health, jobs, models, submit
from api.services import CallerNeeded, Services, caller_of
from jobs.settings import Settings, get_settings


def create_app(settings: Settings) -> FastAPI:
    """The application. Raises jobs.catalog.CatalogError for an unusable catalog; connects to nothing yet."""
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with _before_exit(services.closing.set):
            yield
        services.close()

    app = FastAPI(
        title="vgid",
        version=version("vgid"),
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # served below, behind an API key like everything else
        # the framework's own telemetry would record messages of exceptions and rejected input values
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    app.add_middleware(RequestContext)
    install_problem_handler(app)
    app.include_router(health.router)
    for resource in (submit, jobs, events, artifacts, models):
        app.include_router(resource.router, dependencies=[Depends(caller_of)])
    app.include_router(_description(app), dependencies=[Depends(caller_of)])
    return app


def create_app_from_environment() -> FastAPI:
    """The application as VGID_* variables describe it, logging JSON lines."""
    configure_logging()
    return create_app(get_settings())


def _description(app: FastAPI) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/openapi.json", summary="This description", responses=problems(Unauthenticated))
    def openapi(caller: CallerNeeded) -> dict[str, Any]:
        """OpenAPI 3.1, for generators and for people."""
        caller.client_id()
        return openapi_of(app)

    return router


@contextmanager
def _before_exit(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` as soon as the process is told to end.

    The server waits for open answers before it ends the lifespan, and a stream of events is open for as long as its
    job: it has to hear about the end earlier. The server's own handlers, installed before this, are called as well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        act()
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
