"""A load generator in a process of its own. Each of its connections sends the next request once it has its answer.

httpx and aiohttp need about as long for a request as the service needs for its answer. On two shared cores, they would
measure themselves. This generator writes prepared bytes to a socket and looks for the end of the answer, which takes
some 20 microseconds. wrk does the same, but isn't a Python package.

    python -m bench.serving.load < task.json > figures.json
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
_GRACE_SECONDS = 60.0
_BUFFER_BYTES = 1024 * 1024


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request that keeps its connection open. Each UNIQUE in its head is replaced by a new value."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _END + body


def measure(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> dict[str, Any]:
    """Sends the requests in turn for so many seconds. Returns the throughput, and latencies in milliseconds."""
    return _run_in_child({"kind": "requests", "port": port, "connections": connections, "seconds": seconds}, requests)


def download(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Downloads one file repeatedly for so many seconds. Returns MB (10^6 bytes) per second, and the time of each."""
    return _run_in_child({"kind": "download", "port": port, "connections": connections, "seconds": seconds}, [request])


def _run_in_child(task: dict[str, Any], requests: Sequence[bytes]) -> dict[str, Any]:
    task["requests"] = [base64.b64encode(request).decode() for request in requests]
    done = subprocess.run(
        [sys.executable, "-m", "bench.serving.load"],
        input=json.dumps(task).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=task["seconds"] + _GRACE_SECONDS,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    if set(figures["statuses"]) - {"200", "202", "206"}:
        raise RuntimeError(f"unexpected statuses: {figures['statuses']}")
    return figures


class _Run:
    """What all connections of one run share."""

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
            done.result()  # raises if an answer was cut off
    took = time.perf_counter() - began
    return {
        "megabytes_per_second": sum(received) / took / 1e6,
        "milliseconds_each": 1000 * took * connections / len(received),
        "downloads": len(received),
        "statuses": statuses,
    }


def _read_answer(server: socket.socket, statuses: Counter[str]) -> int:
    """Reads one answer into a buffer that is reused. Returns the size of its body."""
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
    """Runs the task on standard input."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    task = json.load(sys.stdin)
    requests = [base64.b64decode(request) for request in task["requests"]]
    if task["kind"] == "download":
        figures = _downloads(task["port"], requests[0], task["connections"], task["seconds"])
    else:
        figures = asyncio.run(_requests(task["port"], requests, task["connections"], task["seconds"]))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
