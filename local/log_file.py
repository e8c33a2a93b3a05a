"""The log of a child process: its owner alone can read it, and it stays bounded however long the child runs.

A child holds its log open, so renaming the file would change nothing. What the file holds is copied to `NAME.1`, and
the file is cut to nothing. It is open for appending, so the child goes on at its new end. A line that is written
between copy and cut is lost. Postgres and Redis write no other log than this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 10 * 1024**2  # of one file
KEPT = 4  # older files beside it


def open_log(log: Path) -> BinaryIO:
    """Opens the log for appending, once it is short enough and private. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    return _open_private(log, os.O_APPEND)


def rotate(log: Path) -> None:
    """Moves what is in a log that has grown too long to the newest older file. The oldest goes. Raises OSError."""
    if not log.exists() or log.stat().st_size <= MOST_BYTES:
        return
    for number in range(KEPT - 1, 0, -1):
        if _older(log, number).exists():
            _older(log, number).replace(_older(log, number + 1))
    with log.open("r+b") as source, _open_private(_older(log, 1), os.O_TRUNC) as target:
        source.seek(-MOST_BYTES, os.SEEK_END)  # a log from before it was bounded is longer
        target.write(source.read(MOST_BYTES))
        source.truncate(0)


def _older(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _open_private(path: Path, flags: int) -> BinaryIO:
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "wb")
    os.fchmod(file.fileno(), 0o600)  # it may be there already
    return file
