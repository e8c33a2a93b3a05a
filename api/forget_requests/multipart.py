"""Parses multipart/form-data in memory. Starlette's parser would write uploads to temporary files, unencrypted."""

from __future__ import annotations

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems import MalformedRequest

_HEAD_BYTES = 4096  # of one part


class _PartCollector:
    """The parser's callbacks. They collect every part's name and bytes."""

    def __init__(self, max_parts: int) -> None:
        self.found: list[tuple[str, bytes]] = []
        self.complete = False
        self._max_parts = max_parts
        self._header = bytearray()
        self._value = bytearray()
        self._name: str | None = None
        self._data = bytearray()
        self._head_bytes = 0

    def on_part_begin(self) -> None:
        self._name = None
        self._data = bytearray()
        self._head_bytes = 0
        if len(self.found) >= self._max_parts:
            raise MalformedRequest(f"The body has more than {self._max_parts} parts.")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            name = options.get(b"name", b"")
            self._name = name.decode("utf-8", errors="replace") or None
        self._header, self._value = bytearray(), bytearray()

    def _count(self, size: int) -> None:
        """Each call costs more than its bytes do, so an empty field counts, too."""
        self._head_bytes += size + 1
        if self._head_bytes > _HEAD_BYTES:
            raise MalformedRequest(f"The headers of a part may have {_HEAD_BYTES} bytes.")

    def on_headers_finished(self) -> None:
        if self._name is None:
            raise MalformedRequest("A part of the body has no name in its Content-Disposition header.")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def on_part_end(self) -> None:
        if self._name is not None:
            self.found.append((self._name, bytes(self._data)))

    def on_end(self) -> None:
        self.complete = True


def parse_multipart(content_type: str, body: bytes | bytearray, max_parts: int) -> list[tuple[str, bytes]]:
    """Returns the parts in order, each as (name, bytes). Raises MalformedRequest."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("The Content-Type names no boundary.")
    parts = _PartCollector(max_parts)
    callbacks: Any = {
        "on_part_begin": parts.on_part_begin,
        "on_header_field": parts.on_header_field,
        "on_header_value": parts.on_header_value,
        "on_header_end": parts.on_header_end,
        "on_headers_finished": parts.on_headers_finished,
        "on_part_data": parts.on_part_data,
        "on_part_end": parts.on_part_end,
        "on_end": parts.on_end,
    }
    try:
        MultipartParser(boundary, callbacks).write(bytes(body))
    except FormParserError:
        raise MalformedRequest("The body isn't valid multipart/form-data.") from None
    if not parts.complete:
        raise MalformedRequest("The body ends before its closing boundary.")
    return parts.found
