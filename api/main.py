"""The application. Run it with `uvicorn --factory api.main:create_app_from_environment`."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

from fastapi import Depends, FastAPI

from api.limits.deadline import Deadline
from api.logs import configure_logging
from api.middleware import RequestContext
from api.openapi import openapi_document, problem_responses
from api.problem_handler import install_problem_handler
from api.problems import Unauthenticated
from api.request_rules import charge_request, refuse_repeated_header, refuse_unknown_query
from api.routes import artifacts, estimate, health, jobs, models, replay_sets, signing_keys, submit
from api.routes.metrics import metrics_server
from api.routing import API_VERSION, Router
from api.services import CallerDep, Services, get_caller
from jobs.settings import Settings, get_settings


def create_app(settings: Settings) -> FastAPI:
    """Creates the application and connects to nothing yet. Raises jobs.catalog.CatalogError for an unusable catalog."""
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with metrics_server(services), _call_on_exit_signal(services.closing.set):
            yield
        services.close()
        await services.quotas.close()

    app = FastAPI(
        title="vgid",
        version=API_VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # our own route below serves the document, behind an API key
        # FastAPI's telemetry would record messages of exceptions and rejected input values.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    app.add_middleware(Deadline, seconds=settings.answer_seconds)
    app.add_middleware(RequestContext)
    install_problem_handler(app)
    rules = [Depends(refuse_unknown_query), Depends(refuse_repeated_header)]
    for open_to_all in (health, signing_keys):
        app.include_router(open_to_all.router, dependencies=rules)
    with_key = [Depends(get_caller), Depends(charge_request), *rules]
    resources = [resource.router for resource in (submit, estimate, artifacts, replay_sets, models)]
    for router in (*resources, *jobs.routers()):
        app.include_router(router, dependencies=with_key)
    app.include_router(_openapi_router(app), dependencies=with_key)
    return app


def create_app_from_environment() -> FastAPI:
    """Creates the application from the VGID_* variables, and logs JSON lines."""
    configure_logging()
    return create_app(get_settings())


def _openapi_router(app: FastAPI) -> Router:
    router = Router(tags=["service"])

    @router.get(
        "/openapi.json",
        operation_id="get_openapi",
        summary="This description",
        responses=problem_responses(Unauthenticated),
    )
    def openapi(caller: CallerDep) -> dict[str, Any]:
        """OpenAPI 3.1, for generators and for people."""
        caller.client_id()
        return openapi_document(app)

    return router


@contextmanager
def _call_on_exit_signal(callback: Callable[[], None]) -> Iterator[None]:
    """Calls `callback` as soon as SIGTERM or SIGINT arrives, then the handlers that the server has installed.

    The server ends the lifespan only after all answers are complete. An event stream stays open as long as its job
    runs, so it must be told earlier.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        callback()
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
