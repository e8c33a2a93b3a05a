"""Requests whose frame costs more than their content, or says in two ways where they end."""

from __future__ import annotations

import socket

import pytest

from jobs.settings import Settings
from tests.api.service import Service
from tests.api.test_connections import START, all_of, answer, connection

CHUNKED = b"Host: here\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_head_bytes": 2000, "max_connections_per_peer": 4})


def submission(service: Service) -> bytes:
    """The head of a forget request with a key, whose body comes in chunks."""
    key = service.http.headers["authorization"].encode()
    return b"POST /unlearn-jobs HTTP/1.1\r\n" + CHUNKED + b"Authorization: " + key + b"\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def send_gigabyte(connected: socket.socket) -> None:
    piece = chunk(bytes(10_000))
    for _ in range(100_000):
        connected.sendall(piece)


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"a: b\r\n" * 1000, b"0\r\nX: " + b"x" * 400_000, b"1;" + b"x" * 400_000],
    ids=["many trailers", "one trailer", "extension of a chunk"],
)
def test_what_surrounds_a_body_is_bounded(service: Service, endless: bytes) -> None:
    with connection(service) as connected:
        connected.sendall(submission(service) + chunk(b"{") + endless)
        assert answer(connected) == (431, "head-too-large")


def test_a_trailer_is_no_header(service: Service) -> None:
    key = b"Authorization: " + service.http.headers["authorization"].encode() + b"\r\n"
    for line in (b"GET /models", b"POST /unlearn-jobs/estimate"):
        following = line + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        with connection(service) as connected:
            connected.sendall(line + b" HTTP/1.1\r\n" + CHUNKED + b"\r\n0\r\n" + key + b"\r\n" + following)
            assert all_of(connected).count(b"HTTP/1.1 401") == 2


def test_a_request_with_a_trailer_is_taken(service: Service) -> None:
    with connection(service) as connected:
        connected.sendall(submission(service) + chunk(b"{}") + b"0\r\nContent-Encoding: gzip\r\n\r\n")
        assert connected.recv(65536).startswith(b"HTTP/1.1 422")


def test_chunks_have_a_size_on_average(service: Service) -> None:
    with connection(service) as connected:
        connected.sendall(submission(service) + chunk(b" " * 100_000) + chunk(b" ") * 2000)
        assert answer(connected) == (400, "malformed-request")
    with connection(service) as connected:
        connected.sendall(submission(service) + chunk(b" " * 150) * 1500 + chunk(b"{}") + b"0\r\n\r\n")
        assert connected.recv(65536).startswith(b"HTTP/1.1 422")


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"GET /healthz", 200), (b"POST /unlearn-jobs", 401), (b"POST /nothing", 404)],
    ids=["no body is wanted", "no key", "no such path"],
)
def test_a_body_is_not_read_after_the_answer(
    service: Service, line: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.limits.connections._LINGER_SECONDS", 0.1)
    with connection(service) as connected:
        connected.sendall(line + b" HTTP/1.1\r\n" + CHUNKED + b"\r\n" + chunk(b"x"))
        head = all_of(connected).partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert b"connection: close" in head
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_gigabyte(connected)


def test_a_body_that_is_too_large_is_not_read_to_its_end(service: Service) -> None:
    head = submission(service).replace(b"Transfer-Encoding: chunked", b"Content-Length: 900000000")
    with connection(service) as connected:
        connected.sendall(head + b" " * 5_000_000)
        assert answer(connected) == (413, "body-too-large")


def test_few_requests_wait_for_an_earlier_answer(service: Service) -> None:
    with connection(service) as connected:
        connected.sendall((START + b"\r\n") * 40)
        answers = all_of(connected).split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in answers] == [b"200"] * 5
    assert [b"connection: close" in each for each in answers] == [False] * 4 + [True]


def test_a_request_is_answered_before_a_bad_one_ends_the_connection(service: Service) -> None:
    for bad in (b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", START + b"X: " + b"x" * 3000 + b"\r\n\r\n"):
        with connection(service) as connected:
            connected.sendall(START + b"\r\n" + bad)
            assert all_of(connected).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"chunked\r\nTransfer-Encoding: chunked", b"gzip"])
def test_another_transfer_coding_is_refused(service: Service, coding: bytes) -> None:
    head = submission(service).replace(b"chunked", coding)
    with connection(service) as connected:
        connected.sendall(head + chunk(b"{}") + b"0\r\n\r\n")
        assert answer(connected) in ((415, "unsupported-media-type"), (400, "malformed-request"))


def test_one_host_is_named(service: Service) -> None:
    for hosts in (b"", b"Host: here\r\nHost: here\r\n"):
        with connection(service) as connected:
            connected.sendall(b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")
            assert answer(connected) == (400, "malformed-request")
    with connection(service) as connected:
        connected.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert all_of(connected).startswith(b"HTTP/1.1 200")


def test_an_upgrade_is_answered_as_http_and_ends_the_connection(service: Service) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    for _ in range(6):  # more than one peer may have at once
        with connection(service) as connected:
            connected.sendall(START + upgrade + b"\r\n" + START + b"\r\n")
            assert all_of(connected).count(b"HTTP/1.1 200") == 1
    with connection(service) as connected:
        connected.sendall(submission(service).replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n") + chunk(b"{}"))
        assert answer(connected) == (400, "malformed-request")
