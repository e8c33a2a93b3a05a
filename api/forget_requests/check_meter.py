"""Bounds a check's processor time, and notes what it has used. The notes outlive its process, however that ends."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

Loc = tuple[str | int, ...]

# What an unnoted check is taken to have cost: its process was ended while it started.
_START_SECONDS = 1.0
_LEAST_SECONDS = 0.001  # a timer of zero would be none
_TICKS = os.sysconf("SC_CLK_TCK")

_started_for: float | None = None  # processor seconds that this process took before its first check


class CheckNotes(NamedTuple):
    """The last thing that a check has noted. Times are processor seconds.

    pid: its process. start: what that took to start. before: what it had used when the check began. used: by the check
    so far. allowed: what may have been used since at most; 0 once the check has ended. whole: whether all that is left
    of the check's time is allowed, and no image's own bound is nearer. place: the image that is decoded; None before
    and after. pixels: of all images up to that one.
    """

    pid: int
    start: float
    before: float
    used: float
    allowed: float
    whole: bool
    place: Loc | None
    pixels: int

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What was noted last. None where the check hasn't begun."""
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return None
        if not lines:
            return None
        notes = cls(*json.loads(lines[-1]))
        return notes._replace(place=None if notes.place is None else tuple(notes.place))


class CheckMeter:
    """Measures and bounds the check that runs in this process. A context: with its end the check has ended.

    The system ends the process where the check takes more than `seconds` of processor time, or one image more than
    `image_seconds`.
    """

    def __init__(self, notes: Path, seconds: float, image_seconds: float) -> None:
        global _started_for
        self._before = time.process_time()
        _started_for = self._before if _started_for is None else _started_for
        self._start = _started_for
        self._seconds = seconds
        self._image_seconds = image_seconds
        self._pixels = 0
        self._path = notes

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._notes = self._path.open("ab", buffering=0)
        self._allow(math.inf)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops the clock."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._note(self._used(), 0.0, whole=True)
        self._notes.close()

    def decoding(self, place: Loc, pixels: int) -> None:
        """Says that an image is decoded next. It may be the last thing that this process does."""
        self._pixels += pixels
        self._allow(self._image_seconds, place)

    def decoded(self) -> None:
        """Says that no more images are decoded."""
        self._allow(math.inf)

    def _allow(self, seconds: float, place: Loc | None = None) -> None:
        used = self._used()
        left = max(self._seconds - used, _LEAST_SECONDS)
        allowed = min(seconds, left)
        self._note(used, allowed, whole=left <= seconds, place=place)
        signal.setitimer(signal.ITIMER_PROF, allowed)

    def _used(self) -> float:
        return time.process_time() - self._before

    def _note(self, used: float, allowed: float, *, whole: bool, place: Loc | None = None) -> None:
        notes = CheckNotes(os.getpid(), self._start, self._before, used, allowed, whole, place, self._pixels)
        # A line is written by one call, so that whoever ends this process leaves whole lines alone.
        self._notes.write(json.dumps(notes).encode() + b"\n")


def seconds_used(notes: CheckNotes | None, seen: float | None) -> float:
    """Processor seconds that a check has cost. Whoever ends its process pays for the next one's start, too.

    notes: its last ones. seen: what its process had used in all just before it was killed; None if nobody looked.
    Where the process ended by itself, it had used all that it was allowed.
    """
    if notes is None:
        return _START_SECONDS
    if notes.allowed == 0:
        return notes.used
    used = notes.used + notes.allowed if seen is None else seen - notes.before
    return max(used, notes.used) + notes.start


def processor_seconds(pid: int) -> float | None:
    """What a running process has used in all, by Linux's account. None where that can't be told."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = fields[11:13]
        return (int(user) + int(system)) / _TICKS
    return None
