"""Answers that send an immutable file, with a strong ETag and support for one byte range (RFC 9110).

Starlette's FileResponse sends the bytes. This module adds conditional answers, zip members, and refusals as problem
documents.
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

from api.problems import PreconditionFailed, RangeNotSatisfiable

_CHUNK_BYTES = 1024 * 1024
_WRONG_SIZE = "the stored file's size differs from its record"
_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


def _etag(sha256: str) -> str:
    return f'"{sha256}"'


def validator_of(sha256: str) -> Headers:
    """The headers by which a client asks again whether it has the newest bytes."""
    return Headers({"ETag": _etag(sha256), "Cache-Control": "private, no-cache"})


def client_has(request: Request, sha256: str) -> bool:
    """Whether If-None-Match names the ETag of these bytes."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or _etag(sha256) in [item.strip().removeprefix("W/") for item in known.split(",")]


@dataclass(frozen=True)
class Download:
    """A file to send, as the job's record describes it. `size` is in bytes, `sha256` in hex."""

    name: str
    media_type: str
    sha256: str
    size: int

    def file_response(self, request: Request, path: Path) -> Response:
        """Answers with the file at `path`.

        Raises PreconditionFailed, RangeNotSatisfiable, and OSError before anything is sent.
        """
        stat = path.stat()
        if stat.st_size != self.size:
            raise OSError(_WRONG_SIZE)
        self._check_if_match(request)
        if client_has(request, self.sha256):
            return NotModifiedResponse(validator_of(self.sha256))
        response = _LargeChunksResponse if self._requested_range(request) else _WholeFileResponse
        return response(
            path, headers=validator_of(self.sha256), media_type=self.media_type, filename=self.name, stat_result=stat
        )

    def member_response(self, request: Request, archive: Path) -> Response:
        """Answers with the zip's member of this name. Raises as `file_response` does."""
        self._check_if_match(request)
        if client_has(request, self.sha256):
            return NotModifiedResponse(validator_of(self.sha256))
        requested = self._requested_range(request)
        start, end = requested or (0, self.size)
        headers = {
            **validator_of(self.sha256),
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'attachment; filename="{self.name}"',
            "Content-Length": str(end - start),
        }
        if requested:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{self.size}"
        status = 206 if requested else 200
        if request.method == "HEAD":
            return Response(None, status, headers, self.media_type)
        with ZipFile(archive) as opened:
            member = opened.open(self.name)  # keeps the zip's file open until the member is closed
        return StreamingResponse(_chunks(member, start, end), status, headers, self.media_type)

    def _check_if_match(self, request: Request) -> None:
        """Raises PreconditionFailed where If-Match is sent and doesn't name this file's ETag. A weak one never does."""
        wanted = request.headers.getlist("if-match")
        named = {item.strip() for item in ",".join(wanted).split(",")}
        if wanted and not named & {"*", _etag(self.sha256)}:
            raise PreconditionFailed("If-Match doesn't name this file. Ask for the job: it holds the sha256.")

    def _requested_range(self, request: Request) -> tuple[int, int] | None:
        """Start and end (exclusive) of the requested range, or None where the whole file is the answer."""
        requested = _ONE_RANGE.fullmatch(request.headers.get("range", ""))
        if requested is None or requested.groups() == ("", ""):
            return None  # no range, several, or not understood: a server may ignore those
        if request.headers.get("if-range", _etag(self.sha256)) != _etag(self.sha256):
            return None
        first, last = requested.groups()
        start = int(first) if first else max(self.size - int(last), 0)
        end = min(int(last) + 1, self.size) if first and last else self.size
        if first and last and int(last) < int(first):
            return None  # invalid by the grammar of ranges
        if start >= end:
            detail = f"The file has {self.size} bytes."
            raise RangeNotSatisfiable(detail, headers={"Content-Range": f"bytes */{self.size}"})
        return start, end


class _LargeChunksResponse(FileResponse):
    # FileResponse reads each chunk in a thread. With its own 64 kB, those hops double the processor time.
    chunk_size = _CHUNK_BYTES


class _WholeFileResponse(_LargeChunksResponse):
    """The whole file, whatever the Range header says.

    FileResponse would refuse a range that it can't read, and would send several ranges in parts.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the file."""
        headers = [item for item in scope["headers"] if item[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _chunks(member: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with member:
        member.seek(start)
        while start < end:
            chunk = member.read(min(_CHUNK_BYTES, end - start))
            if not chunk:
                raise OSError(_WRONG_SIZE)
            start += len(chunk)
            yield chunk
