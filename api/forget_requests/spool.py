"""Holds a body while it arrives: in memory while it is small, then in a file that only this process can read.

The file is encrypted with a key that is never written down, so what a crash leaves of it is noise.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

IN_MEMORY = 1024 * 1024  # bytes
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class SpooledBody:
    """A body that has arrived whole. `read` works in any process of this machine.

    start: its first bytes, in plain. size: of all, in bytes. file: what follows them, encrypted; None if nothing does.
    """

    start: bytes = field(repr=False)
    size: int
    file: Path | None = None
    key: bytes = field(default=b"", repr=False)
    nonce: bytes = b""
    tag: bytes = field(default=b"", repr=False)

    def read(self) -> bytearray:
        """The body. Raises cryptography.exceptions.InvalidTag if somebody has changed the file."""
        body = bytearray(self.start)
        if self.file is None:
            return body
        decryptor = Cipher(AES(self.key), GCM(self.nonce, self.tag)).decryptor()
        with self.file.open("rb") as spooled:
            while chunk := spooled.read(_CHUNK):
                body += decryptor.update(chunk)
        decryptor.finalize()
        return body


class Spool:
    """Takes a body piece by piece. `path` is where a file may be made; `close` deletes it."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._key, self._nonce = secrets.token_bytes(32), secrets.token_bytes(12)
        self._encryptor = Cipher(AES(self._key), GCM(self._nonce)).encryptor()

    def write(self, piece: bytes) -> None:
        """Adds the next bytes. Raises OSError when the disk is full."""
        self.size += len(piece)
        room = IN_MEMORY - len(self._memory)
        self._memory += piece[:room]
        if len(piece) > room:
            if self._file is None:
                self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            self._file.write(self._encryptor.update(piece[room:]))

    def finish(self) -> SpooledBody:
        """The whole body. Raises OSError when the disk is full."""
        if self._file is None:
            return SpooledBody(bytes(self._memory), self.size)
        self._encryptor.finalize()
        self._file.close()
        return SpooledBody(bytes(self._memory), self.size, self._path, self._key, self._nonce, self._encryptor.tag)

    def close(self) -> None:
        """Deletes the file, if there is one."""
        if self._file is not None:
            with suppress(OSError):  # a full disk: what is left unwritten is of no use
                self._file.close()
            self._path.unlink(missing_ok=True)
