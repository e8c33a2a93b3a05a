"""Connections that send too much, too slowly, or are too many. They are told why, and closed."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from api.logs import OncePerSecond
from api.server import limits_of
from jobs.settings import Settings
from tests.api.conftest import Serve
from tests.api.service import Service
from tests.waiting import eventually

START = b"GET /healthz HTTP/1.1\r\nHost: here\r\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = {"max_head_bytes": 2000, "head_seconds": 0.3, "max_connections_per_peer": 4, "max_connections": 6}
    return settings.model_copy(update=limits)


@contextmanager
def connection(service: Service) -> Iterator[socket.socket]:
    address = service.http.base_url
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connected:
        yield connected


def answer(connected: socket.socket) -> tuple[int, str]:
    """Status and kind of the problem, once the server has closed the connection."""
    received = b""
    while piece := connected.recv(65536):
        received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(content)["type"].removeprefix("urn:vgid:problem:")


@pytest.mark.parametrize(
    "head",
    [
        START + b"X-Long: " + b"x" * 3000,
        START + b"X-Long: " + b"x" * 3000 + b"\r\n\r\n",
        START + b"".join(b"X-%d: y\r\n" % number for number in range(400)),
        b"GET /" + b"x" * 3000,
    ],
    ids=["endless header", "long header", "many headers", "long address"],
)
def test_a_large_head_is_refused(service: Service, head: bytes) -> None:
    with connection(service) as connected:
        connected.sendall(head)
        assert answer(connected) == (431, "head-too-large")


@pytest.mark.parametrize(
    "begun", [b"", b"\r\n", START, START + b"\r\n" + START], ids=["nothing", "blank", "half", "second"]
)
def test_a_head_has_to_arrive_in_time(service: Service, begun: bytes) -> None:
    with connection(service) as connected:
        connected.sendall(begun)
        if begun.count(START) == 2:
            assert connected.recv(65536).startswith(b"HTTP/1.1 200")
        assert answer(connected) == (408, "request-timeout")


def test_a_body_has_to_arrive_at_a_rate(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.limits.connections._RATE_INTERVAL", 0.2)
    service = serve(settings.model_copy(update={"head_seconds": 5, "min_body_rate": 1000}))
    head = b"POST /unlearn-jobs HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n"
    key = service.http.headers["authorization"].encode()
    with connection(service) as connected:
        connected.sendall(head + b"Authorization: " + key + b"\r\n\r\n{")
        assert answer(connected) == (408, "request-timeout")


def test_what_is_no_http_is_answered_with_a_problem(service: Service) -> None:
    with connection(service) as connected:
        connected.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert answer(connected) == (400, "malformed-request")


def test_one_peer_has_so_many_connections_and_gets_more_when_it_closes_some(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update={"head_seconds": 60}))
    service.http.close()
    with ExitStack() as held:
        connections = [held.enter_context(connection(service)) for _ in range(4)]
        with connection(service) as one_more:
            assert answer(one_more) == (503, "too-many-connections")
        connections[0].close()

        def served() -> bool:
            with connection(service) as another:
                another.sendall(START + b"Connection: close\r\n\r\n")
                return another.recv(100).startswith(b"HTTP/1.1 200")

        eventually(served)


def test_connections_stay_below_the_open_files(settings: Settings) -> None:
    assert limits_of(settings.model_copy(update={"max_connections": 5000}), open_files=1024).most == 824


def test_a_warning_that_repeats_is_logged_once_a_second() -> None:
    once = OncePerSecond()

    def passes(message: str, second: float, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.makeLogRecord({"name": "asyncio", "msg": message, "levelno": level, "created": second})
        return record if once.filter(record) else None

    assert passes("accept failed on %s", 10.0)
    assert passes("another kind", 10.1)
    assert [passes("accept failed on %s", 10.0 + step / 10) for step in range(1, 10)] == [None] * 9
    again = passes("accept failed on %s", 11.2)
    assert again is not None
    assert again.fields == {"held_back": 9}  # type: ignore[attr-defined]
    assert all(passes("request", 12.0, logging.INFO) for _ in range(3))
