"""What every route has without saying so: HEAD beside GET, all methods in Allow, the API's version, notice of its end.

It imports nothing of ours, since problem documents need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPMethod
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.routing import Match
from starlette.types import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

# The version of the HTTP interface is the service's own, in the OpenAPI document and in a header of every answer.
API_VERSION = version("vgid")
VERSION_HEADER = "API-Version"

_MARK = "_deprecation"


@dataclass(frozen=True)
class Deprecation:
    """When a route began to be deprecated, and when it goes. Both are whole seconds with a time zone."""

    since: datetime
    sunset: datetime

    @property
    def headers(self) -> dict[str, str]:
        """The headers of RFC 9745 and RFC 8594."""
        return {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Sunset": format_datetime(self.sunset.astimezone(UTC), usegmt=True),
        }


def deprecated(*, since: datetime, sunset: datetime) -> Callable[[Endpoint], Endpoint]:
    """Marks a route's function, below the route's own decorator. Its answers and the OpenAPI document then say so.

    Raises ValueError when it would go before it is deprecated.
    """
    if sunset < since:
        raise ValueError("a route can't go before it is deprecated")

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, Deprecation(since, sunset))
        return endpoint

    return mark


def deprecation_of(endpoint: object) -> Deprecation | None:
    """What `deprecated` has said of a route's function."""
    return getattr(endpoint, _MARK, None)


class Router(APIRouter):
    """A router whose GET routes answer HEAD too. The OpenAPI document lists GET alone."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Adds the route, and one for HEAD if it is for GET."""
        if deprecation_of(endpoint) is not None:
            options["deprecated"] = True
        super().add_api_route(path, endpoint, **options)
        if "GET" in (options.get("methods") or ("GET",)):
            super().add_api_route(path, endpoint, **{**options, "methods": ["HEAD"], "include_in_schema": False})


def allowed_methods(request: Request) -> list[str]:
    """All methods of the request's path. A framework's own 405 names those of one route."""

    def answers(method: HTTPMethod) -> bool:
        scope: Scope = {**request.scope, "method": method.value}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method.value for method in HTTPMethod if answers(method)]
