"""A load generator in a process of its own: so many connections, each sends its next request when it has its answer.

httpx and aiohttp take about as long for a request as the service does for its answer, and the two share two cores: they
would measure themselves. This one writes prepared bytes to a socket and looks for the end of the answer, some 20
microseconds a request. wrk does the same, but isn't a Python package.

    python -m bench.serving.load < order.json > figures.json
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

UNIQUE = b"<unique>"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"
_PATIENCE_SECONDS = 60.0
_BUFFER_BYTES = 1024 * 1024


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request on a connection that stays open. UNIQUE in its head becomes another value every time."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _END + body


def measure(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> dict[str, Any]:
    """Sends the requests in turn for so long: throughput, and the latency of each answer in milliseconds."""
    return _ordered({"kind": "requests", "port": port, "connections": connections, "seconds": seconds}, requests)


def download(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Reads one answer again and again for so long: MB (10^6 bytes) a second in all, and the time of each."""
    return _ordered({"kind": "download", "port": port, "connections": connections, "seconds": seconds}, [request])


def _ordered(order: dict[str, Any], requests: Sequence[bytes]) -> dict[str, Any]:
    order["requests"] = [base64.b64encode(request).decode() for request in requests]
    done = subprocess.run(
        [sys.executable, "-m", "bench.serving.load"],
        input=json.dumps(order).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=order["seconds"] + _PATIENCE_SECONDS,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    if set(figures["statuses"]) - {"200", "202", "206"}:
        raise RuntimeError(f"answers that weren't asked for: {figures['statuses']}")
    return figures


class _Run:
    """What all connections share."""

    def __init__(self, requests: Sequence[bytes], seconds: float) -> None:
        self.requests = requests
        self.next = 0
        self.until = time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.open = 0
        self.over = asyncio.Event()

    def take(self) -> bytes:
        request = self.requests[self.next % len(self.requests)]
        self.next += 1
        return request.replace(UNIQUE, uuid4().hex.encode(), 1) if UNIQUE in request[:1000] else request


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self.run = run
        self.received = bytearray()
        self.missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.run.open += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.received += data
            end = self.received.find(_END)
            if end < 0:
                return
            length = _LENGTH.search(self.received, 0, end)
            assert length is not None, "the answer has no length"
            self.missing = int(length[1]) + end + len(_END) - len(self.received)
        else:
            self.missing -= len(data)
        if self.missing == 0:
            self._answered()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.missing != 0:
            self.run.statuses["cut off"] += 1
        self.run.open -= 1
        if self.run.open == 0:
            self.run.over.set()

    def _answered(self) -> None:
        now = time.perf_counter()
        self.run.latencies.append(now - self.began)
        self.run.statuses[self.received[9:12].decode()] += 1
        if now < self.run.until:
            self._send()
        else:
            self.transport.close()

    def _send(self) -> None:
        self.received.clear()
        self.missing = -1
        self.began = time.perf_counter()
        self.transport.write(self.run.take())


async def _requests(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> dict[str, Any]:
    run = _Run(requests, seconds)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    await run.over.wait()
    took = time.perf_counter() - began
    cuts = statistics.quantiles(run.latencies, n=100, method="inclusive")
    milliseconds = {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3, "max": max(run.latencies) * 1e3}
    return {
        "answers": len(run.latencies),
        "per_second": len(run.latencies) / took,
        "milliseconds": milliseconds,
        "statuses": run.statuses,
    }


def _downloads(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    received: list[int] = []
    began = time.perf_counter()

    def read() -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            while time.perf_counter() < began + seconds:
                server.sendall(request)
                received.append(_read_answer(server, statuses))

    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(read) for _ in range(connections)]:
            done.result()  # a cut-off answer fails the bench
    took = time.perf_counter() - began
    return {
        "megabytes_per_second": sum(received) / took / 1e6,
        "milliseconds_each": 1000 * took * connections / len(received),
        "downloads": len(received),
        "statuses": statuses,
    }


def _read_answer(server: socket.socket, statuses: Counter[str]) -> int:
    """Reads one answer into a buffer that is used again; its body's bytes."""
    buffer = bytearray(_BUFFER_BYTES)
    head = b""
    while _END not in head:
        head += server.recv(65536)
    end = head.index(_END)
    length = _LENGTH.search(head, 0, end)
    assert length is not None, "the answer has no length"
    statuses[head[9:12].decode()] += 1
    missing = int(length[1]) + end + len(_END) - len(head)
    while missing > 0:
        got = server.recv_into(buffer, min(missing, _BUFFER_BYTES))
        assert got, "the answer ends early"
        missing -= got
    return int(length[1])


def main() -> None:
    """Carries out the order on standard input."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    order = json.load(sys.stdin)
    requests = [base64.b64decode(request) for request in order["requests"]]
    if order["kind"] == "download":
        figures = _downloads(order["port"], requests[0], order["connections"], order["seconds"])
    else:
        figures = asyncio.run(_requests(order["port"], requests, order["connections"], order["seconds"]))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
