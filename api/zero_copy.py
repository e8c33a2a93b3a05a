"""HTTP as uvicorn speaks it, with one thing more: the kernel sends files, and their bytes never pass through Python.

Run it with `uvicorn --http api.zero_copy:ZeroCopyProtocol`. It is ASGI's extension "zero copy send", which a request's
scope names where it is there: on Linux, without TLS of uvicorn's own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

ZERO_COPY = "http.response.zerocopysend"
# What may leave before other requests have their turn.
_PART_BYTES = 2 * 1024 * 1024


class ZeroCopyProtocol(HttpToolsProtocol):
    """A connection whose requests are offered the extension."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begins."""
        super().connection_made(transport)
        if sys.platform == "linux" and self.scheme == "http":
            self.app = _offering_zero_copy(self.app)


def _offering_zero_copy(app: ASGIApp) -> ASGIApp:
    async def with_zero_copy(scope: Scope, receive: Receive, send: Send) -> None:
        # the bound method's owner: with pipelined requests, the connection's newest one may be another
        cycle = cast(RequestResponseCycle, send.__self__)  # type: ignore[attr-defined]

        async def send_or_copy(message: Message) -> None:
            if message["type"] != ZERO_COPY:
                await send(message)
                return
            await _copy(cycle.transport, message["file"], message["offset"], message["count"])
            cycle.expected_content_length -= message["count"]
            if not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b""})

        scope["extensions"] = {**scope.get("extensions", {}), ZERO_COPY: {}}
        await app(scope, receive, send_or_copy)

    return with_zero_copy


async def _copy(transport: asyncio.Transport, file: int, offset: int, count: int) -> None:
    """Has the kernel send `count` bytes of the file. Raises ConnectionError when the client has gone, and OSError."""
    if transport.is_closing():
        raise ConnectionResetError
    try:
        # asyncio lets nobody wait for a transport's own descriptor
        with transport.get_extra_info("socket").dup() as connection, _whole_segments(connection):
            while transport.get_write_buffer_size():  # the head, and what a slow client hasn't read of the last answer
                await _writable(transport, connection)
            read = offset
            while count:
                part = min(count, _PART_BYTES)
                if offset + part > read and not _in_memory(file, offset, part):
                    await anyio.to_thread.run_sync(os.pread, file, part, offset)
                    read = offset + part
                sent = _sent_now(connection, file, offset, part)
                offset, count = offset + sent, count - sent
                await (asyncio.sleep(0) if sent == part else _writable(transport, connection))
    except ConnectionError:
        transport.abort()
        await asyncio.sleep(0)  # uvicorn hears of it before the application ends
        raise


@contextmanager
def _whole_segments(connection: socket.socket) -> Iterator[None]:
    """Has TCP keep what doesn't fill a segment until the block ends, as nginx's `tcp_nopush` does.

    2 MB then take sendfile 0.64 ms instead of 1.01, to a client on the same machine (docs/performance/service.md).
    """
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _in_memory(file: int, offset: int, count: int) -> bool:
    """Whether the kernel has the part's first and last byte in memory: else to send it would wait for a disk."""
    try:
        return all(os.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT) for at in (offset, offset + count - 1))
    except OSError:
        return False


def _sent_now(connection: socket.socket, file: int, offset: int, count: int) -> int:
    """How many bytes the connection took at once. Raises OSError where the file has ended."""
    try:
        sent = os.sendfile(connection.fileno(), file, offset, count)
    except BlockingIOError:
        return 0
    if sent == 0:
        raise OSError("the file has ended early")
    return sent


async def _writable(transport: asyncio.Transport, connection: socket.socket) -> None:
    """Waits until the connection takes bytes again. Raises ConnectionResetError when it is no more."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection)
    if transport.is_closing():
        raise ConnectionResetError
