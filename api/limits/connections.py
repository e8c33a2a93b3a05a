"""Bounds what a connection may cost before a request is understood: its number, its head, its time, its rate.

uvicorn has no limit of these: a timeout applies between requests alone, and its parser takes a head of any size.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle, Transport
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.problems import HeadTooLarge, MalformedRequest, Problem, RequestTimeout, TooManyConnections, problem_response

log = logging.getLogger(__name__)

_RATE_INTERVAL = 5.0  # seconds, over which a body's rate is measured


@dataclass(frozen=True)
class ConnectionLimits:
    """Of one server. A connection over `most` or `most_per_peer` is answered with 503 at once.

    head_bytes, head_seconds: for the request line and the headers. body_rate: bytes a second, at least.
    """

    most: int
    most_per_peer: int
    head_bytes: int
    head_seconds: float
    body_rate: float


@dataclass
class OpenConnections:
    """The connections of one server, by peer."""

    by_peer: Counter[str] = field(default_factory=Counter)

    def admit(self, peer: str, limits: ConnectionLimits) -> bool:
        """Counts a new connection unless there are too many already."""
        if self.by_peer.total() >= limits.most or self.by_peer[peer] >= limits.most_per_peer:
            return False
        self.by_peer[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Forgets an admitted connection that has ended."""
        self.by_peer[peer] -= 1
        if not self.by_peer[peer]:
            del self.by_peer[peer]


def bounded_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol for HTTP within these limits, for `uvicorn.Config(http=...)` of one server."""

    class Bounded(BoundedProtocol):
        _limits = limits
        _open = OpenConnections()

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It is closed, after a problem document where none was begun, once it exceeds a limit."""

    _limits: ConnectionLimits
    _open: OpenConnections

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._peer: str | None = None  # None: not admitted
        self._timer: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0  # since the rate was looked at

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Admits the connection, which has to send a head in time."""
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        if not self._open.admit(peer, self._limits):
            self._refuse(TooManyConnections("There are too many connections. Close some, or try again later."))
            return
        self._peer = peer
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Makes room for another connection."""
        self._set_timer(None)
        if self._peer is not None:
            self._open.leave(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes the next bytes, unless they are too many for a head."""
        if self._peer is None or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._timer is None:
                self._expect_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Passes the request on. From now on its body has to arrive."""
        self._in_head, self._head_bytes = False, 0
        if self.transport.is_closing():
            return
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._limits.head_bytes:
            self._refuse_head()
            return
        self._body_bytes = 0
        self._set_timer(_RATE_INTERVAL)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Passes a piece of the body on."""
        self._body_bytes += len(body)
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request; another may follow."""
        self._set_timer(None)
        self._in_head = True
        if self.cycle is not None:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP; uvicorn's own answer is plain text."""
        self._refuse(MalformedRequest(msg))

    def _expect_head(self) -> None:
        self._in_head = True
        self._set_timer(self._limits.head_seconds)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(RequestTimeout(f"The head of a request has to arrive within {self._limits.head_seconds:g} s."))
        elif self.flow.read_paused or self._body_bytes >= self._limits.body_rate * _RATE_INTERVAL:
            self._body_bytes = 0
            self._set_timer(_RATE_INTERVAL)
        else:
            self._refuse(RequestTimeout(f"A body has to arrive at {self._limits.body_rate:g} bytes a second or more."))

    def _refuse_head(self) -> None:
        self._refuse(HeadTooLarge(f"A request's line and headers may have {self._limits.head_bytes} bytes."))

    def _refuse(self, problem: Problem) -> None:
        """Answers, where no answer has begun, and closes the connection."""
        log.warning("connection refused: %s", problem.slug)
        if self._can_answer():
            response = problem_response(problem, None)
            headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
            line = f"HTTP/1.1 {problem.status} {problem.title}\r\n".encode()
            self.transport.write(line + headers + b"connection: close\r\n\r\n" + bytes(response.body))
        self._set_timer(None)
        self.transport.close()

    def _can_answer(self) -> bool:
        """Whether no answer to this request has begun, and none to an earlier one is still to come."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return True
        return cycle.response_complete if self._in_head else not cycle.response_started
