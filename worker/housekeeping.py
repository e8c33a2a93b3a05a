"""The reaper's thread in every worker: rounds of repairs until it is stopped."""

from __future__ import annotations

import logging
from threading import Event, Thread
from time import monotonic

from jobs.reaping import reap, sweep_artifacts
from jobs.signing.keys import SigningKeyMissing
from jobs.signing.receipt import sign_receipts
from worker import alive
from worker.checkpoint_folder import delete_ended_checkpoints
from worker.describe import describe
from worker.supervisor import WorkerContext

log = logging.getLogger(__name__)

_LOGGED = (
    "requeued",
    "attempts_exhausted",
    "cancelled",
    "inputs_deleted",
    "replay_sets_deleted",
    "orphans_deleted",
    "undeletable",
)
# A sweep looks at every artifact, and deletes only what has lain there for an hour.
_ARTIFACT_SWEEP_SECONDS = 3600.0


class Housekeeper:
    """Does a round of repairs every `reap_seconds`. A round that fails is logged, and the next one follows."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._stopping = Event()
        self._next_artifact_sweep = monotonic()
        self._thread = Thread(target=self._rounds, name="reaper", daemon=True)

    def start(self) -> None:
        """Starts the thread, which does its first round at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after its present round. Returns at once."""
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
        for action in _LOGGED:
            for job_id in getattr(report, action):
                log.warning("reaper: job %s %s", job_id, action)
        self._sign_receipts()
        for job_id in delete_ended_checkpoints(context.settings, context.sessions):
            log.warning("reaper: job %s checkpoint deleted", job_id)
        if monotonic() >= self._next_artifact_sweep:
            self._next_artifact_sweep = monotonic() + _ARTIFACT_SWEEP_SECONDS
            for sha256 in sweep_artifacts(context.sessions, context.blobs):
                log.warning("reaper: artifact %s of no job deleted", sha256)
        alive.mark()

    def _sign_receipts(self) -> None:
        try:
            sign_receipts(self._context.sessions, self._context.settings.signing_keys)
        except SigningKeyMissing as error:
            log.error("reaper: deletion receipts wait: %s", error)
