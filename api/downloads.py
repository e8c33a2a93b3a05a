"""Sends files that never change: a strong ETag, and one range at a time (RFC 9110).

Starlette's FileResponse does the sending. Added here are the conditional answers and refusals as problem documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZipFile

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Receive, Scope, Send

from api.problems import RangeNotSatisfiable

_CHUNK_BYTES = 1024 * 1024
_OTHER_SIZE = "the stored file hasn't the size that its record says"
_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Download:
    """A file as the job's record has it: `size` bytes whose sha256 is `sha256`."""

    name: str
    media_type: str
    sha256: str
    size: int

    def of_file(self, request: Request, path: Path) -> Response:
        """Answers with the file at `path`. Raises RangeNotSatisfiable, and OSError before anything is sent."""
        stat = path.stat()
        if stat.st_size != self.size:
            raise OSError(_OTHER_SIZE)
        if self._is_known(request):
            return NotModifiedResponse(self._headers)
        response = _InLargeChunks if self._asked_part(request) else _Whole
        return response(path, headers=self._headers, media_type=self.media_type, filename=self.name, stat_result=stat)

    def of_member(self, request: Request, archive: Path) -> Response:
        """Answers with the member of that name of a zip. Raises as `of_file` does."""
        if self._is_known(request):
            return NotModifiedResponse(self._headers)
        part = self._asked_part(request)
        start, end = part or (0, self.size)
        headers = {
            **self._headers,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'attachment; filename="{self.name}"',
            "Content-Length": str(end - start),
        }
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{self.size}"
        status = 206 if part else 200
        if request.method == "HEAD":
            return Response(None, status, headers, self.media_type)
        with ZipFile(archive) as opened:
            member = opened.open(self.name)  # keeps the zip's file open until it is closed itself
        return StreamingResponse(_chunks(member, start, end), status, headers, self.media_type)

    @property
    def _etag(self) -> str:
        return f'"{self.sha256}"'

    @property
    def _headers(self) -> Headers:
        return Headers({"ETag": self._etag, "Cache-Control": "private, no-cache"})

    def _is_known(self, request: Request) -> bool:
        """Whether If-None-Match names the file as it is."""
        known = request.headers.get("if-none-match", "")
        return known.strip() == "*" or self._etag in [item.strip().removeprefix("W/") for item in known.split(",")]

    def _asked_part(self, request: Request) -> tuple[int, int] | None:
        """Start and end (exclusive) of the range that was asked for; None where the whole file is the answer."""
        asked = _ONE_RANGE.fullmatch(request.headers.get("range", ""))
        if asked is None or asked.groups() == ("", ""):
            return None  # none, several, or not understood: a server may ignore those
        if request.headers.get("if-range", self._etag) != self._etag:
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


class _InLargeChunks(FileResponse):
    chunk_size = _CHUNK_BYTES  # with its own 64 kB, twice the processor time goes into hops to a thread and back


class _Whole(_InLargeChunks):
    """The file as if no range was asked for: FileResponse refuses what it can't read, and sends several in parts."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        headers = [item for item in scope["headers"] if item[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _chunks(member: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with member:
        member.seek(start)
        while start < end:
            chunk = member.read(min(_CHUNK_BYTES, end - start))
            if not chunk:
                raise OSError(_OTHER_SIZE)
            start += len(chunk)
            yield chunk
