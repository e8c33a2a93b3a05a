"""What surrounds every request: an id, one log line, a limit on the body, and an answer when the code itself fails."""

from __future__ import annotations

import logging
import re
import time
from typing import Any
from uuid import UUID, uuid4

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logs import request_id
from api.problems import BodyTooLarge, InternalError, problem_response

log = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DRAIN_SECONDS = 5.0


class RequestContext:
    """Gives the request its id (the caller's X-Request-ID when it is harmless), logs it, answers 500 on a crash."""

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
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
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
            # where the answer isn't whole nobody was left to take it; the number is nginx's
            _log_request(scope, status if complete else 499, time.perf_counter() - began)
            request_id.reset(token)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Logs the route, not the path or the query: a caller may have put anything into those."""
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    # a job's own id only: what stands at its place in a path may be no id but free text
    named = scope["state"].get("job_id") or scope.get("path_params", {}).get("job_id")
    try:
        fields["job"] = str(UUID(str(named))) if named else None
    except ValueError:
        fields["job"] = None
    log.info("request", extra={"fields": fields})


class BodyLimit:
    """Refuses a body of more than `most` bytes, announced or counted while it streams in.

    The announced length is judged when the route starts to read, so that authentication comes first. A request that
    is answered before its body has arrived is drained for a moment: closing the socket on unread bytes resets the
    connection, and the sender would never see the answer.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers({})
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self.app(scope, receive, send)
            return
        body = _CountedBody(headers, receive, self.most)

        async def send_after_drain(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        await self.app(scope, body.receive, send_after_drain)


class _CountedBody:
    def __init__(self, headers: Headers, receive: Receive, most: int) -> None:
        announced = headers.get("content-length", "")
        self._announced = int(announced) if announced.isdecimal() else 0
        # Reading would tell a waiting sender (100-continue) to start; unread, it sees the answer first.
        self._waits = "expect" in headers
        self._receive = receive
        self._most = most
        self._read = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next message. Raises BodyTooLarge as soon as it is known to be one."""
        if self._announced > self._most:
            raise self._too_large()
        message = await self._next()
        if self._read > self._most:
            raise self._too_large()
        return message

    async def drain(self) -> None:
        """Throws away what still comes, up to one more body's worth of bytes and a few seconds."""
        if self._waits and self._read == 0:
            return
        most = self._read + self._most
        with anyio.move_on_after(_DRAIN_SECONDS):
            while not self._complete and self._read <= most:
                await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body may have at most {self._most} bytes.")
