"""Sending immutable files: strong ETag, If-None-Match, Range and If-Range (RFC 9110), one range at a time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import IO

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.problems import RangeNotSatisfiable

_CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Download:
    """Bytes that never change. `open` gives a seekable stream of exactly `size` bytes whose sha256 is `sha256`."""

    name: str
    media_type: str
    sha256: str
    size: int
    open: Callable[[], IO[bytes]]

    async def response_to(self, request: Request) -> Response:
        """The answer to a GET or HEAD, by the request's conditional headers. Raises RangeNotSatisfiable."""
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
        # opened before the status is sent: a missing file is then an error, not a cut-off success
        file = await anyio.to_thread.run_sync(self.open)
        return StreamingResponse(_read(file, start, end), status, headers, self.media_type)

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


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or etag in [item.strip().removeprefix("W/") for item in header.split(",")]


async def _read(file: IO[bytes], start: int, end: int) -> AsyncIterator[bytes]:
    try:
        await anyio.to_thread.run_sync(file.seek, start)
        left = end - start
        while left > 0:
            chunk = await anyio.to_thread.run_sync(file.read, min(_CHUNK_BYTES, left))
            if not chunk:
                raise OSError("the stored file is shorter than its record says")
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
