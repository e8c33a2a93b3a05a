"""What a request's frame may be: its head, its chunks and its trailers. uvicorn's parser bounds none of them."""

from __future__ import annotations

from collections.abc import Sequence

from api.problems import HeadTooLarge, MalformedRequest, UnsupportedMediaType

_CHUNKS = 1000  # looked at together
_MEAN_CHUNK = 100  # bytes at least, over so many chunks


def check_head(version: str, url: bytes, headers: Sequence[tuple[bytes, bytes]], upgrade: bool, most: int) -> None:
    """Raises HeadTooLarge over `most` bytes; MalformedRequest, UnsupportedMediaType where the body's end is in doubt.

    upgrade: whether the parser takes what follows the head for another protocol.
    """
    if len(url) + sum(len(name) + len(value) for name, value in headers) > most:
        raise large_head(most)
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise MalformedRequest("Send one Host header.")
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        raise UnsupportedMediaType("Send the body in no other Transfer-Encoding than chunked.")
    sized = any(name == b"content-length" and value.strip(b" 0") for name, value in headers)
    if upgrade and (codings or sized):
        raise MalformedRequest("Send a body without an Upgrade header: this is HTTP/1.1 alone.")


def large_head(most: int) -> HeadTooLarge:
    """The refusal of a head over `most` bytes."""
    return HeadTooLarge(f"A request's line and headers may have {most} bytes.")


class ArrivingBody:
    """Counts what arrives of one body. At most `most` bytes come between two pieces of it, or as its trailers."""

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._between = 0  # bytes received since the last piece or the last beginning of a chunk
        self._trailers = 0
        self._chunks = 0  # of those that are looked at together
        self._size_before = 0  # the size when the first of them began
        self._moved = False

    def begin_chunk(self) -> None:
        """Counts a chunk. Raises MalformedRequest when the last thousand had too little in them."""
        self._moved = True
        self._chunks += 1
        if self._chunks == _CHUNKS:
            if self.size - self._size_before < _CHUNKS * _MEAN_CHUNK:
                raise MalformedRequest(f"Send the body in chunks of {_MEAN_CHUNK} bytes or more, on average.")
            self._chunks, self._size_before = 0, self.size

    def add(self, piece: bytes) -> None:
        """Counts a piece of the body."""
        self._moved = True
        self.size += len(piece)

    def drop_trailer(self, name: bytes, value: bytes) -> None:
        """Counts a trailer that nobody gets to see. Raises HeadTooLarge."""
        self._trailers += len(name) + len(value) + len(b": \r\n")
        if self._trailers > self._most:
            raise self._refusal()

    def end_read(self, received: int) -> None:
        """Counts the bytes of one read, after its pieces. Raises HeadTooLarge when reads bring no piece of the body."""
        self._between = 0 if self._moved else self._between + received
        self._moved = False
        if self._between > self._most:
            raise self._refusal()

    def _refusal(self) -> HeadTooLarge:
        return HeadTooLarge(f"The trailers of a body, or the extensions of a chunk, may have {self._most} bytes.")
