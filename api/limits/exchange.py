"""One request between its connection and the application."""

from __future__ import annotations

from typing import Protocol

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, ASGISendEvent
from uvicorn._types import Scope as UvicornScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Connection(Protocol):
    """What a connection wants to know of its requests."""

    def body_is_awaited(self, cycle: RequestResponseCycle) -> None:
        """The application asks for more of the request's body."""

    def is_last(self, cycle: RequestResponseCycle) -> bool:
        """The answer begins. Whether it is to say that the connection ends with it."""


class Exchange:
    """The application for one request. `cycle` is uvicorn's own state of it, which comes before the call."""

    cycle: RequestResponseCycle

    def __init__(self, app: ASGI3Application, connection: Connection) -> None:
        self._app = app
        self._connection = connection

    async def __call__(self, scope: UvicornScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handles the request, and tells the connection of it."""

        async def receive_in_time() -> ASGIReceiveEvent:
            self._connection.body_is_awaited(self.cycle)
            return await receive()

        async def send_or_end(message: ASGISendEvent) -> None:
            if message["type"] != "http.response.start" or not self._connection.is_last(self.cycle):
                await send(message)
                return
            self.cycle.keep_alive = False  # uvicorn says `connection: close`
            await send(message)
            self.cycle.keep_alive = True  # the connection itself closes after the answer, uvicorn would at once

        await self._app(scope, receive_in_time, send_or_end)
