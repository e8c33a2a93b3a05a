"""A deadline for answers: a caller whose request waits for something that hangs is told to come back."""

from __future__ import annotations

import math

import anyio
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Unavailable, problem_response


class Deadline:
    """The middleware that answers 503 where no answer has begun in time.

    What runs in a thread ends by the limits of what it waits for; until then the thread is taken.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_begun(message: Message) -> None:
            nonlocal begun
            begun, deadline.deadline = True, math.inf
            await send(message)

        state = scope.setdefault("state", {})
        with anyio.move_on_after(self._seconds) as deadline:
            state["deadline"] = deadline
            await self.app(scope, receive, send_begun)
        if deadline.cancelled_caught and not begun:
            problem = Unavailable("The service takes too long to answer. Try again.")
            await problem_response(problem, state.get("request_id"))(scope, receive, send)


def lift_deadline(request: Request) -> None:
    """For a request whose body and check have limits of their own."""
    request.state.deadline.deadline = math.inf
