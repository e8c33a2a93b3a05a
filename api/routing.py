"""What every route has without saying so: HEAD beside GET, all methods in Allow, the API's version.

It imports nothing of ours, since problem documents need it.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPMethod
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.routing import Match
from starlette.types import Scope

# The version of the HTTP interface is the service's own, in the OpenAPI document and in a header of every answer.
API_VERSION = version("vgid")
VERSION_HEADER = "API-Version"


class Router(APIRouter):
    """A router whose GET routes answer HEAD too. The OpenAPI document lists GET alone."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Adds the route, and one for HEAD if it is for GET."""
        super().add_api_route(path, endpoint, **options)
        if "GET" in (options.get("methods") or ("GET",)):
            super().add_api_route(path, endpoint, **{**options, "methods": ["HEAD"], "include_in_schema": False})


def allowed_methods(request: Request) -> list[str]:
    """All methods of the request's path. A framework's own 405 names those of one route."""

    def answers(method: HTTPMethod) -> bool:
        scope: Scope = {**request.scope, "method": method.value}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method.value for method in HTTPMethod if answers(method)]
