"""The reaper as a thread of every worker: rounds of repairs until it is told to stop."""

from __future__ import annotations

import logging
from threading import Event, Thread

from jobs.reaping import reap
from worker import alive
from worker.describe import describe
from worker.supervise import Workshop

log = logging.getLogger(__name__)


class Housekeeper:
    """Calls `jobs.reaping.reap` every `reap_seconds`; a round that fails is only logged."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._stopping = Event()
        self._thread = Thread(target=self._rounds, name="reaper", daemon=True)

    def start(self) -> None:
        """Starts with a round at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the present round. Returns at once."""
        self._stopping.set()

    def _rounds(self) -> None:
        while True:
            try:
                report = reap(self._shop.sessions, self._shop.blobs, self._shop.settings, self._shop.queue)
            except Exception as error:
                log.error("reaper: %s", describe(error))
            else:
                alive.mark()
                for what in ("requeued", "poisoned", "cancelled", "republished"):
                    for job_id in getattr(report, what):
                        log.warning("reaper: job %s %s", job_id, what)
            if self._stopping.wait(self._shop.settings.reap_seconds):
                return
