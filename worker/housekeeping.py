"""The reaper as a thread of every worker: rounds of repairs until it is told to stop."""

from __future__ import annotations

import logging
from threading import Event, Thread
from time import monotonic

from jobs.reaping import reap, sweep_artifacts
from worker import alive
from worker.checkpoint_folder import delete_ended_checkpoints
from worker.describe import describe
from worker.supervise import WorkerContext

log = logging.getLogger(__name__)

_REPORTED = (
    "requeued", "attempts_exhausted", "cancelled", "republished", "inputs_deleted", "orphans_deleted", "undeletable",
)  # fmt: skip
# It looks at every artifact there is, and what it finds has waited for an hour already.
_ARTIFACT_SWEEP_SECONDS = 3600.0


class Housekeeper:
    """Calls `jobs.reaping.reap` every `reap_seconds`; a round that fails is only logged."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._stopping = Event()
        self._next_artifact_sweep = monotonic()
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
                self._round()
            except Exception as error:
                log.error("reaper: %s", describe(error))
            if self._stopping.wait(self._context.settings.reap_seconds):
                return

    def _round(self) -> None:
        context = self._context
        report = reap(context.sessions, context.blobs, context.settings, context.queue)
        for what in _REPORTED:
            for job_id in getattr(report, what):
                log.warning("reaper: job %s %s", job_id, what)
        for job_id in delete_ended_checkpoints(context.sessions):
            log.warning("reaper: job %s checkpoint deleted", job_id)
        if monotonic() >= self._next_artifact_sweep:
            self._next_artifact_sweep = monotonic() + _ARTIFACT_SWEEP_SECONDS
            for sha256 in sweep_artifacts(context.sessions, context.blobs):
                log.warning("reaper: artifact %s of no job deleted", sha256)
        alive.mark()
