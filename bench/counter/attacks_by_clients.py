"""Attacks of clients that have keys: bodies that are dear to check, or that stay. Each gives a figure of its own."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from PIL import Image

from bench.serving.hostile import slow_jpeg
from bench.serving.stack import BenchStack
from jobs.clients import access
from jobs.clients.limits import ClientLimits

MIB = 1024**2
BODY = 64 * MIB - 1024  # bytes, below the service's limit
UPLOADS = 20
CHUNKED_UPLOADS = 6
CHUNKED_BYTES = 63_000_000
CHUNKED_QUOTA = 70_000_000  # bytes an hour
_CHUNK = 64 * 1024


def new_key(stack: BenchStack, name: str, limits: ClientLimits | None = None) -> str:
    """The key of a new client with the limits of an office, or these."""
    with stack.sessions.begin() as s:
        client = access.create_client(s, name)
        access.set_limits(s, client, limits or ClientLimits())
        return access.create_key(s, client)[1]


def file_request(stack: BenchStack, key: str) -> float:
    """Files one of a small picture. Seconds until the answer."""
    return _seconds(lambda: _post(stack, _request_of([_small_picture()]), key))


def empty_pairs(stack: BenchStack) -> float:
    """A body of nothing but empty pairs. Seconds until the answer."""
    content = b'{"model":"demo","forget":[' + b"{}," * (BODY // 3) + b"{}]}"
    return _seconds(lambda: _post(stack, content, stack.key))


def slow_images(stack: BenchStack, other: str) -> float:
    """Four requests at once with an image that is dear to decode. Seconds that another client's request takes."""
    slow = _request_of([slow_jpeg(side=6000, scans=100)])
    return _meanwhile([lambda: _post(stack, slow, stack.key)] * 4, lambda: file_request(stack, other))


def progressive_jpegs(stack: BenchStack, other: str) -> float:
    """Two clients ask four estimates each, of ten JPEGs of 120 scans. Seconds that a third client's request takes."""
    dear = _request_of([slow_jpeg(side=2400 + 8 * number, scans=120) for number in range(10)])
    keys = [new_key(stack, f"attacker {number}") for number in range(2)]

    def ask(key: str) -> None:
        _post(stack, dear, key, "/unlearn-jobs/estimate")

    return _meanwhile([lambda key=key: ask(key) for key in keys * 4], lambda: file_request(stack, other))  # type: ignore[misc]


def held_uploads(stack: BenchStack) -> None:
    """Uploads of 50 MiB whose last byte doesn't come."""
    head = f"POST /unlearn-jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {stack.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {50 * MIB}\r\n\r\n"
    with ExitStack() as held:
        for _ in range(UPLOADS):
            connection = held.enter_context(connected(stack))
            connection.sendall(head.encode())
            with suppress(OSError):
                connection.sendall(b" " * (50 * MIB - 1))
        time.sleep(1)


def chunked_uploads(stack: BenchStack) -> tuple[float, float]:
    """Six uploads in chunks, each within the quota, none of which ends. What they have on disk at most, in MiB, and the
    share of the quota that is left after them.
    """
    key = new_key(stack, "uploader", ClientLimits(upload_bytes_per_hour=CHUNKED_QUOTA))
    head = f"POST /unlearn-jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (_CHUNK, bytes(_CHUNK))
    peak = 0

    def send(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(head.encode())
            for _ in range(CHUNKED_BYTES // _CHUNK):
                connection.sendall(chunk)

    with ExitStack() as held:
        connections = [held.enter_context(connected(stack)) for _ in range(CHUNKED_UPLOADS)]
        senders = [threading.Thread(target=send, args=(connection,)) for connection in connections]
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            peak = max(peak, _unfinished_bytes(stack))
            time.sleep(0.05)
        time.sleep(1)
        peak = max(peak, _unfinished_bytes(stack))
    answer = _post(stack, _request_of([_small_picture()]), key)
    left = re.search(r'"bytes";r=(\d+)', answer.headers["ratelimit"])
    assert left is not None
    return peak / MIB, int(left[1]) / CHUNKED_QUOTA


@contextmanager
def connected(stack: BenchStack) -> Iterator[socket.socket]:
    """A connection to the API."""
    with socket.create_connection(("127.0.0.1", stack.api.port), timeout=10) as connection:
        yield connection


def _meanwhile(attacks: list[Callable[[], object]], ask: Callable[[], float]) -> float:
    """What `ask` gives a second after all attacks have begun. Waits for their end."""
    senders = [threading.Thread(target=attack) for attack in attacks]
    for sender in senders:
        sender.start()
    time.sleep(1)  # until they are at work
    taken = ask()
    for sender in senders:
        sender.join()
    return taken


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _post(stack: BenchStack, content: bytes, key: str, path: str = "/unlearn-jobs") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{stack.api.port}{path}"
    return httpx.post(url, content=content, headers=headers, trust_env=False, timeout=300)


def _request_of(pictures: list[bytes]) -> bytes:
    def pair(picture: bytes) -> dict[str, object]:
        image = {"base64": base64.b64encode(picture).decode()}
        return {"image": image, "question": "Who is this?", "answer": "Ilse Marwood"}

    return json.dumps({"model": "demo", "forget": [pair(picture) for picture in pictures]}).encode()


def _small_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def _unfinished_bytes(stack: BenchStack) -> int:
    """What requests that aren't answered yet have on disk."""
    total = 0
    with suppress(FileNotFoundError):
        for file in (stack.settings.blob_dir / "unfinished").iterdir():
            with suppress(FileNotFoundError):
                total += file.stat().st_size
    return total
