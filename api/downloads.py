"""Sending immutable files: strong ETag, If-None-Match, Range and If-Range (RFC 9110), one range at a time.

Files are left to the kernel where the server can do that (`api.zero_copy`); what lies within a zip is read and written.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from io import FileIO
from typing import IO

import anyio.lowlevel
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.problems import RangeNotSatisfiable
from api.zero_copy import ZERO_COPY

_CHUNK_BYTES = 256 * 1024
_BYTES_IN_A_ROW = 1024 * 1024
_TOO_SHORT = "the stored file is shorter than its record says"
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Download:
    """Bytes that never change. `open` gives a seekable stream of exactly `size` bytes whose sha256 is `sha256`."""

    name: str
    media_type: str
    sha256: str
    size: int
    open: Callable[[], IO[bytes]]

    def response_to(self, request: Request) -> Response:
        """The answer to a GET or HEAD, by the request's conditional headers. Raises RangeNotSatisfiable.

        Opens the file and may read of it: call it in a thread. A missing file is then an error, not a cut-off success.
        """
        etag = f'"{self.sha256}"'
        headers = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "Content-Disposition": f'attachment; filename="{self.name}"',
        }
        if _matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        part = self._asked_part(request, etag)
        start, end = part or (0, self.size)
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{self.size}"
        headers["Content-Length"] = str(end - start)
        status = 206 if part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=self.media_type)
        file = self.open()
        try:
            if isinstance(file, FileIO):
                if os.fstat(file.fileno()).st_size < end:
                    raise OSError(_TOO_SHORT)
                if ZERO_COPY in request.scope.get("extensions", {}):
                    return _SentByTheKernel(file, start, end, status, headers, self.media_type)
            file.seek(start)
            first = _next_chunk(file, end - start)
        except BaseException:
            file.close()
            raise
        return StreamingResponse(_chunks(file, first, end - start), status, headers, self.media_type)

    def _asked_part(self, request: Request, etag: str) -> tuple[int, int] | None:
        """Start and end (exclusive) of the range that was asked for; None where the whole file is the answer."""
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or asked.groups() == ("", ""):
            return None  # none, several, or not understood: a server may ignore those
        if request.headers.get("if-range", etag) != etag:
            return None
        first, last = asked.groups()
        start = int(first) if first else max(self.size - int(last), 0)
        end = min(int(last) + 1, self.size) if first and last else self.size
        if first and last and int(last) < int(first):
            return None  # not a range by its grammar
        if start >= end:
            detail = f"The file has {self.size} bytes."
            raise RangeNotSatisfiable(detail, headers={"Content-Range": f"bytes */{self.size}"})
        return start, end


class _SentByTheKernel(Response):
    """Bytes `start` to `end` of a file, which it closes."""

    def __init__(
        self, file: FileIO, start: int, end: int, status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(None, status, headers, media_type)
        self._file, self._start, self._count = file, start, end - start

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answers. Raises ClientDisconnect."""
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            part = {"file": file.fileno(), "offset": self._start, "count": self._count}
            try:
                await send({"type": ZERO_COPY, **part})
            except ConnectionError:
                raise ClientDisconnect from None


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or etag in [item.strip().removeprefix("W/") for item in header.split(",")]


def _next_chunk(file: IO[bytes], left: int) -> bytes:
    chunk = file.read(min(_CHUNK_BYTES, left))
    if not chunk and left:
        raise OSError(_TOO_SHORT)
    return chunk


def _cached_chunk(file: IO[bytes], left: int) -> memoryview | None:
    """What of the next chunk the kernel has in memory; None where that is nothing, or can't be told.

    To copy it takes less time than a hop to a thread and back, and never waits for a disk.
    """
    if sys.platform != "linux" or not isinstance(file, FileIO):
        return None
    buffer = memoryview(bytearray(min(_CHUNK_BYTES, left)))
    try:
        size = os.preadv(file.fileno(), [buffer], file.tell(), os.RWF_NOWAIT)
    except OSError:
        return None
    file.seek(size, os.SEEK_CUR)
    return buffer[:size] if size else None


async def _chunks(file: IO[bytes], first: bytes, size: int) -> AsyncIterator[bytes | memoryview]:
    """`size` bytes of the file, of which `first` has been read."""
    chunk: bytes | memoryview = first
    left = size
    try:
        while left := left - len(chunk):
            yield chunk
            if left % _BYTES_IN_A_ROW < _CHUNK_BYTES:
                await anyio.lowlevel.checkpoint()  # a fast reader would otherwise have the event loop to itself
            cached = _cached_chunk(file, left)
            chunk = await anyio.to_thread.run_sync(_next_chunk, file, left) if cached is None else cached
        yield chunk
    finally:
        file.close()
