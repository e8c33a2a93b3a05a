"""A worker's pauses while its surroundings are at fault: each twice as long as the one before, up to a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from threading import Event

from jobs.database import SessionFactory
from jobs.queueing.queue import JobQueue, QueueUnavailable
from jobs.settings import Settings
from jobs.signing.keys import private_key
from jobs.storage.blobs import BlobStore
from jobs.storage.room import require_room
from jobs.surroundings import Fault, Sign, sign_of, storage_sign
from worker.checkpoint_folder import checkpoint_root
from worker.describe import describe
from worker.work_folder import work_root

log = logging.getLogger(__name__)

_LONGEST = 60.0  # seconds
_GRACE = 60.0  # seconds after which a report of a pause is forgotten, should this worker die

Look = Callable[[], None]


class Pause:
    """Those of one accelerator. It reports them to where `/readyz` looks.

    looks: at what a job needs. Each raises while something is the matter.
    """

    def __init__(self, queue: JobQueue, worker: str, stopping: Event, looks: Sequence[Look]) -> None:
        self._queue = queue
        self._worker = worker
        self._stopping = stopping
        self._looks = looks
        self._next: dict[Fault, float] = {}  # seconds

    def hold(self, met: Sign | None = None) -> None:
        """Returns once no look sees a fault, or the worker stops.

        met: what the last attempt has met. It is waited for once, whatever is seen: of a fault that no look shows, only
        another attempt can tell whether it is gone.
        """
        signs = {*self._seen(), *([] if met is None else [met])}
        if not signs:
            return
        while signs and not self._stopping.is_set():
            self._wait(signs)
            signs = set(self._seen())
        self._report([], 0.0)

    def forget(self) -> None:
        """An attempt has ended without a fault: the next pause is a short one again."""
        self._next.clear()

    def _seen(self) -> Iterator[Sign]:
        for look in self._looks:
            try:
                look()
            except Exception as error:
                yield _sign(error)

    def _wait(self, signs: set[Sign]) -> None:
        faults = {sign.fault for sign in signs}
        seconds = max(self._next.get(fault, 1.0) for fault in faults)
        self._next.update((fault, min(_LONGEST, 2 * self._next.get(fault, 1.0))) for fault in faults)
        log.warning("no job for %g s: %s", seconds, ", ".join(sorted(map(str, signs))))
        self._report(sorted(faults), seconds)
        self._stopping.wait(seconds)

    def _report(self, faults: Sequence[Fault], seconds: float) -> None:
        try:
            self._queue.report_pause(self._worker, [fault.value for fault in faults], seconds + _GRACE)
        except QueueUnavailable as error:
            log.warning("a pause isn't reported: %s", describe(error))


def looks(settings: Settings, sessions: SessionFactory, blobs: BlobStore) -> Sequence[Look]:
    """At the storage of results, at that of the work and its checkpoints, at the database and the signing key."""

    def at_the_key() -> None:
        with sessions.begin() as s:
            private_key(s, settings.signing_keys)

    def at_the_blobs() -> None:
        blobs.require_room(settings.min_free_bytes)

    def at_the_work() -> None:
        for folder in {work_root(), checkpoint_root(settings)}:
            require_room(folder, settings.min_free_bytes)

    return at_the_blobs, at_the_work, at_the_key


def _sign(error: Exception) -> Sign:
    if isinstance(error, OSError):
        return storage_sign(error)
    found = sign_of(error)
    if found is None:
        raise error
    return found
