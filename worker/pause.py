"""A worker's pauses while its surroundings are at fault: each twice as long as the one before, up to a minute."""

from __future__ import annotations

import logging
from threading import Event

from jobs.queueing.queue import JobQueue, QueueUnavailable
from jobs.surroundings import Fault
from worker.describe import describe

log = logging.getLogger(__name__)

_LONGEST = 60.0  # seconds
_GRACE = 60.0  # seconds after which a report of a pause is forgotten, should this worker die


class Pause:
    """One worker's. It reports pauses to where `/readyz` looks."""

    def __init__(self, queue: JobQueue, worker: str, stopping: Event) -> None:
        self._queue = queue
        self._worker = worker
        self._stopping = stopping
        self._next = 1.0

    def wait(self, fault: Fault) -> None:
        """Waits its time, or until the worker stops."""
        seconds, self._next = self._next, min(_LONGEST, 2 * self._next)
        log.warning("no job for %g s: %s", seconds, fault)
        self._report(fault, seconds)
        self._stopping.wait(seconds)

    def over(self) -> None:
        """An attempt has ended as attempts do: the next pause is a short one again."""
        if self._next > 1.0:
            self._next = 1.0
            self._report(None, 0.0)

    def _report(self, fault: Fault | None, seconds: float) -> None:
        try:
            self._queue.report_pause(self._worker, None if fault is None else fault.value, seconds + _GRACE)
        except QueueUnavailable as error:
            log.warning("a pause isn't reported: %s", describe(error))
