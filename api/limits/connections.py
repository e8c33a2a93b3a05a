"""Bounds what a connection may cost beside a request's content: its number, its frame, its time, its rate, its end.

uvicorn has no limit of these: a timeout applies between requests alone, and its parser takes a head of any size.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle, Transport
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.limits.exchange import Exchange
from api.limits.framing import ArrivingBody, check_head, large_head
from api.limits.peers import ConnectionLimits, OpenConnections, peer_of
from api.problems import MalformedRequest, Problem, RequestTimeout, TooManyConnections, problem_response

log = logging.getLogger(__name__)

_RATE_INTERVAL = 5.0  # seconds, over which a body's rate is measured
_UNREAD_SECONDS = 30.0  # in which a client has to read something of what waits for it
_LINGER_SECONDS = 2.0  # in which a client can read the last answer while it still sends
_DROP_PAUSE = 0.01  # seconds between two reads of what is dropped, since dropping at full speed takes a processor
_PIPELINED = 4  # requests that may wait for the answer to an earlier one


class _Enough(Exception):
    """What follows isn't parsed: the connection ends with the requests that have come."""


def bounded_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol for HTTP within these limits, for `uvicorn.Config(http=..., ws="none")` of one server.

    A websocket would get another protocol, which has no limits and never leaves its peer's place.
    """

    class Bounded(BoundedProtocol):
        _limits = limits
        _open = OpenConnections()

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It is closed, after a problem document where none was begun, once it exceeds a limit.

    A callback of the parser that raises ends the parsing: nothing after it in the same read is looked at.
    """

    _limits: ConnectionLimits
    _open: OpenConnections

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._peer: str | None = None  # None: not admitted
        self._timer: TimerHandle | None = None
        self._unread_timer: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body = ArrivingBody(self._limits.head_bytes)
        self._size_before = 0  # of the body, when its rate was looked at
        self._last: RequestResponseCycle | None = None  # the one after whose answer the connection ends
        self._deaf = False  # whether all that still arrives is dropped

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Admits the connection, which has to send a head in time."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that pause_writing tells of every answer that isn't read
        peer = peer_of(self.client)
        if not self._open.admit(peer, self._limits):
            self._refuse(TooManyConnections("There are too many connections. Close some, or try again later."))
            return
        self._peer = peer
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Makes room for another connection."""
        self._set_timer(None)
        self._forget_unread()
        if self._peer is not None:
            self._open.leave(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes the next bytes, and refuses those that no request may have."""
        if self._peer is None or self.transport.is_closing():
            return
        if self._deaf:
            self.flow.pause_reading()
            self.loop.call_later(_DROP_PAUSE, self.flow.resume_reading)
            return
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
            if self._timer is None:
                self._expect_head()
        try:
            self.parser.feed_data(data)
            if not self._in_head:
                self._body.end_read(len(data))
            elif self._head_bytes > self._limits.head_bytes:
                raise large_head(self._limits.head_bytes)
        except HttpParserUpgrade:
            self._end_after_answers()  # the request is answered, but what follows it may be no HTTP
        except (HttpParserError, Problem) as error:
            self._parsing_ended(error.__context__ or error)

    def on_message_begin(self) -> None:
        """Begins a request. Raises _Enough where no more are taken."""
        if self._last is not None or len(self.pipeline) >= _PIPELINED:
            raise _Enough
        super().on_message_begin()
        if self._timer is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header. A trailer isn't one. Raises HeadTooLarge for too many trailers."""
        if self._in_head:
            super().on_header(name, value)
        else:
            self._body.drop_trailer(name, value)

    def on_headers_complete(self) -> None:
        """Passes the request on. Raises the Problem of its head."""
        upgrade = self.parser.should_upgrade()
        check_head(self.parser.get_http_version(), self.url, self.headers, upgrade, self._limits.head_bytes)
        self.app = exchange = Exchange(self.config.loaded_app, self)
        super().on_headers_complete()
        exchange.cycle = self.cycle
        self._in_head, self._head_bytes = False, 0
        self._body = ArrivingBody(self._limits.head_bytes)
        self._set_timer(None)

    def on_chunk_header(self) -> None:
        """Begins a chunk, or the trailers. Raises MalformedRequest when the chunks are too small."""
        self._body.begin_chunk()

    def on_body(self, body: bytes) -> None:
        """Passes a piece of the body on."""
        self._body.add(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request; another may follow."""
        self._set_timer(None)
        self._in_head = True
        super().on_message_complete()

    def body_is_awaited(self, cycle: RequestResponseCycle) -> None:
        """Starts the clock of a body that is still arriving. Before, a client may wait to be asked for it."""
        if cycle is self.cycle and not self._in_head and not self._deaf and self._timer is None:
            self._measure_rate()

    def is_last(self, cycle: RequestResponseCycle) -> bool:
        """Whether the connection ends with this answer, which begins now: so it does if the body hasn't arrived."""
        if cycle.more_body:
            self._last = cycle
        return cycle is self._last

    def on_response_complete(self) -> None:
        """Goes on to the next request. After the last, what arrives is dropped, and the connection closed soon."""
        super().on_response_complete()
        if self._last is None or not self._last.response_complete or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._deaf = True
        # Closing with bytes unread would make the system reset the connection, and the answer might be lost.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_timer(_LINGER_SECONDS)

    def pause_writing(self) -> None:
        """Waits for the client to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Goes on writing: the client has read."""
        self._forget_unread()
        super().resume_writing()

    def _expect_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < unread:
                self._expect_reading()
            else:
                log.warning("connection ended: its answers aren't read")
                self.transport.abort()  # closing would wait for the client

        self._forget_unread()
        self._unread_timer = self.loop.call_later(_UNREAD_SECONDS, look)

    def _forget_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _expect_head(self) -> None:
        self._set_timer(self._limits.head_seconds)

    def _measure_rate(self) -> None:
        self._size_before = self._body.size
        self._set_timer(_RATE_INTERVAL)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._deaf:
            self.transport.close()
        elif self._in_head:
            self._refuse(RequestTimeout(f"The head of a request has to arrive within {self._limits.head_seconds:g} s."))
        elif self.flow.read_paused or self._arrived_in_time():
            self._measure_rate()
        else:
            self._refuse(RequestTimeout(f"A body has to arrive at {self._limits.body_rate:g} bytes a second or more."))

    def _arrived_in_time(self) -> bool:
        return self._body.size - self._size_before >= self._limits.body_rate * _RATE_INTERVAL

    def _parsing_ended(self, error: BaseException) -> None:
        if isinstance(error, _Enough):
            self._end_after_answers()
        else:
            self._refuse(error if isinstance(error, Problem) else MalformedRequest("This is no HTTP request."))

    def _end_after_answers(self) -> None:
        """Reads no more. The requests that have come are answered."""
        self._deaf, self._last = True, self.cycle
        self._set_timer(None)

    def _refuse(self, problem: Problem) -> None:
        """Answers, unless an answer has begun, and closes the connection. Earlier requests are answered first."""
        log.warning("connection refused: %s", problem.slug)
        cycle: RequestResponseCycle | None = self.cycle
        if self._in_head and cycle is not None and not cycle.response_complete:
            self._end_after_answers()
            return
        if self._in_head or cycle is None or not (cycle.response_started or self.pipeline):
            response = problem_response(problem, None)
            headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
            line = f"HTTP/1.1 {problem.status} {problem.title}\r\n".encode()
            self.transport.write(line + headers + b"connection: close\r\n\r\n" + bytes(response.body))
        self._set_timer(None)
        self.transport.close()
