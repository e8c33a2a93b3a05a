"""A costly look that many ask for is taken once a second."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio.to_thread import run_sync as to_thread

Seen = TypeVar("Seen")

_SECONDS = 1.0


class Remembered(Generic[Seen]):
    """What was seen within the last second. Where nothing was, one looks and the others wait without a thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: list[Seen] = []  # one, or none yet
        self._until = -math.inf

    async def get(self, look: Callable[[], Seen]) -> Seen:
        """What was seen lately, or what `look` sees now, in a thread. Raises what it raises."""
        async with self._lock:
            if self._clock() >= self._until:
                self._seen = [await to_thread(look)]
                self._until = self._clock() + _SECONDS
            return self._seen[0]
