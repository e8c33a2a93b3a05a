"""The middleware around every request: it gives an id, writes one log line, and answers 500 when the code fails."""

from __future__ import annotations

import logging
import re
import time
from typing import Any
from uuid import UUID, uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits.quotas import rate_limit_headers
from api.logs import request_id
from api.problems import InternalError, problem_response
from api.routing import API_VERSION, VERSION_HEADER

log = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives the request its id, logs it, and answers 500 on a crash.

    The id is the caller's X-Request-ID where that is harmless, else a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        current = given if _ACCEPTABLE_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = current
        token = request_id.set(current)
        status, complete = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = current
                headers[VERSION_HEADER] = API_VERSION
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
                if quotas := scope["state"].get("quotas"):
                    headers.update(rate_limit_headers(list(quotas.values())))
            await send(message)

        began = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("request crashed", exc_info=error)
            if status == 0:
                await problem_response(InternalError(), current)(scope, receive, send_with_id)
            status, complete = 500, True
        finally:
            # An incomplete answer means that the client has gone. 499 is nginx's status for that.
            _log_request(scope, status if complete else 499, time.perf_counter() - began)
            request_id.reset(token)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Logs the route. The path and the query are left out: they may hold anything that a caller put there."""
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path_format", None),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    # Only a UUID is logged. Another path parameter in its place may be free text.
    named = scope["state"].get("job_id") or scope.get("path_params", {}).get("job_id")
    try:
        fields["job"] = str(UUID(str(named))) if named else None
    except ValueError:
        fields["job"] = None
    log.info("request", extra={"fields": fields})
