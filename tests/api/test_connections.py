"""Connections that send too much, too slowly, or are too many. They are told why, and closed."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from api import server
from api.limits.connections import bounded_protocol
from api.limits.known_clients import KnownClient, KnownClients
from api.limits.peers import peer_of
from api.logs import OncePerSecond
from api.server import limits_of
from jobs.settings import Settings
from tests.api.conftest import Serve
from tests.api.service import Service
from tests.api.test_artifact import asking_for_artifact, slow_connection
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


def all_of(connected: socket.socket) -> bytes:
    """What the server sends until it closes the connection. It may reset one that it hasn't read to its end."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connected.recv(65536):
            received += piece
    return received


def answer(connected: socket.socket) -> tuple[int, str]:
    """Status and kind of the problem, once the server has closed the connection."""
    head, _, content = all_of(connected).partition(b"\r\n\r\n")
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


def test_a_large_head_is_refused_after_another_request_too(service: Service) -> None:
    with connection(service) as connected:
        connected.sendall(START + b"\r\n")
        assert connected.recv(65536).startswith(b"HTTP/1.1 200")
        connected.sendall(START + b"X-Long: " + b"x" * 3000 + b"\r\n\r\n")
        assert answer(connected) == (431, "head-too-large")


def test_a_body_has_to_arrive_at_a_rate(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.limits.connections._RATE_INTERVAL", 0.2)
    service = serve(settings.model_copy(update={"head_seconds": 5, "min_body_rate": 1000}))
    head = b"POST /unlearn-jobs HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n"
    key = service.http.headers["authorization"].encode()
    with connection(service) as connected:
        connected.sendall(head + b"Authorization: " + key + b"\r\n\r\n{")
        assert answer(connected) == (408, "request-timeout")


def test_a_body_has_no_clock_before_it_is_asked_for(
    serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key's check takes longer than a body may, and the client waits for a 100."""
    monkeypatch.setattr("api.limits.connections._RATE_INTERVAL", 0.1)
    service = serve(settings)
    known = threading.Event()
    read = KnownClients.read

    def read_late(clients: KnownClients, secret: str) -> KnownClient | None:
        known.wait(20)
        return read(clients, secret)

    monkeypatch.setattr(KnownClients, "read", read_late)
    head = b"POST /unlearn-jobs HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    key = service.http.headers["authorization"].encode()
    with connection(service) as connected, connection(service) as clock:
        connected.sendall(head + b"Expect: 100-continue\r\nAuthorization: " + key + b"\r\n\r\n")
        assert answer(clock) == (408, "request-timeout")  # 0.3 s have passed
        known.set()
        assert connected.recv(65536).startswith(b"HTTP/1.1 100")
        connected.sendall(b"{}")
        assert connected.recv(65536).startswith(b"HTTP/1.1 422")


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


def test_answers_have_to_be_read(
    serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A download that nobody reads ends, and its place is free again."""
    monkeypatch.setattr("api.limits.connections._UNREAD_SECONDS", 0.2)
    service = serve(settings.model_copy(update={"max_connections_per_peer": 1, "head_seconds": 60}))
    job_id, _ = service.succeeded(tmp_path, {"adapter_model.safetensors": Random(0).randbytes(20_000_000)})
    service.http.close()

    def free() -> bool:
        with connection(service) as another:
            another.sendall(START + b"Connection: close\r\n\r\n")
            return another.recv(100).startswith(b"HTTP/1.1 200")

    eventually(free)
    with slow_connection(service) as unread:
        unread.sendall(asking_for_artifact(service, job_id))
        assert unread.recv(1)
        eventually(free)


class ByHand:
    """A loop and a transport whose clock and buffer a test moves."""

    def __init__(self) -> None:
        self.unread = 0
        self.aborted = False
        self.due: Callable[[], None] = lambda: None

    def call_later(self, _seconds: float, call: Callable[[], None]) -> Any:
        self.due = call
        return SimpleNamespace(cancel=lambda: None)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True

    def __getattr__(self, name: str) -> Any:
        return lambda *_given, **_named: None


def test_who_reads_slowly_is_waited_for(settings: Settings) -> None:
    hand: Any = ByHand()
    config = uvicorn.Config(SimpleNamespace(), log_config=None, ws="none")  # type: ignore[arg-type]
    protocol = bounded_protocol(limits_of(settings, 1024))(config, ServerState(), {}, hand)
    protocol.connection_made(hand)
    hand.unread = 5000
    protocol.pause_writing()
    for unread in (4000, 3000, 10):
        hand.unread = unread
        hand.due()
    assert not hand.aborted
    hand.due()
    assert hand.aborted


def test_a_network_of_ipv6_is_one_peer() -> None:
    assert peer_of(("2001:db8:1:2::7", 1)) == peer_of(("2001:db8:1:2:ffff::9", 2)) == "2001:db8:1:2::/64"
    assert peer_of(("2001:db8:1:3::7", 1)) != peer_of(("2001:db8:1:2::7", 1))
    assert peer_of(("::ffff:192.0.2.1", 1)) == peer_of(("192.0.2.1", 1)) == "192.0.2.1"
    assert peer_of(("fe80::1%eth0", 1)) == "fe80::/64"
    assert peer_of(None) == ""


def test_the_server_speaks_no_websockets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would have no limits, and keep their peer's place for good."""
    served: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, **_sockets: served.append(self.config))
    monkeypatch.setattr(server, "get_settings", lambda: settings)
    server.serve()
    assert served[0].ws == "none"


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
