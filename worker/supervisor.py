"""From a wake-up to the last job: claims each, runs it in a process, watches it, records how it ended."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from queue import SimpleQueue
from threading import Event
from time import monotonic

from sqlalchemy.exc import OperationalError

from jobs import claims, endings
from jobs.catalog import Catalog, CatalogError
from jobs.claims import Claim
from jobs.database import SessionFactory
from jobs.queueing import turns
from jobs.queueing.queue import JobQueue, QueueUnavailable
from jobs.settings import Settings
from jobs.states import Phase, State
from jobs.storage.blobs import BlobStore
from jobs.storage.input_cleanup import delete_inputs
from jobs.surroundings import Fault, Sign, sign_of
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import delete_checkpoint
from worker.describe import describe
from worker.exit_status import sign_of_status
from worker.gpu_slot import GpuSlot, end_process
from worker.pause import Pause, looks
from worker.work_folder import work_folder

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25  # how soon the end of a process, or an order to stop, is noticed


class Outcome(StrEnum):
    """How an attempt's process ended, as far as the supervisor can tell. The values are slugs for the history."""

    done = "done"  # the process has recorded the attempt's end itself, or has lost the job
    crashed = "crashed"
    stalled = "stalled"
    too_long = "too_long"  # for its client's limit
    cancelled = "cancelled"
    surroundings = "surroundings"  # of the attempt, not of the job: `Supervisor` knows which fault
    lost = "lost"  # the job was taken from this worker
    stopping = "worker_stopping"


@dataclass(frozen=True)
class WorkerContext:
    """What all attempts of this worker share."""

    settings: Settings
    sessions: SessionFactory
    blobs: BlobStore
    queue: JobQueue


class Supervisor:
    """Runs jobs: each in a process of its own, on an accelerator of its own, in the thread that calls `run`.

    gpus: the accelerators to use. If there are none, attempts see whatever this process sees.
    """

    def __init__(self, context: WorkerContext, gpus: Sequence[str]) -> None:
        self._context = context
        self._name = f"{platform.node()}:{os.getpid()}"
        self._stopping = Event()
        spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
        accelerators: Sequence[str | None] = gpus or [None]
        self._slots = [GpuSlot(gpu, spawner) for gpu in accelerators]
        self._free: SimpleQueue[tuple[GpuSlot, Pause]] = SimpleQueue()
        needed = looks(context.settings, context.sessions, context.blobs)
        for number, slot in enumerate(self._slots):
            self._free.put((slot, Pause(context.queue, f"{self._name}:{number}", self._stopping, needed)))

    def start_spares(self) -> None:
        """Starts a spare process for the catalog's first model at every accelerator. Call it before any job."""
        try:
            model = next(iter(Catalog.load(self._context.settings.catalog).models))
        except CatalogError as error:
            log.warning("no spare processes: %s", error)
            return
        for slot in self._slots:
            self._start_spare(slot, model)

    def stop(self) -> None:
        """Takes no more jobs, and ends the running attempts without counting them. Returns at once."""
        self._stopping.set()

    def close(self) -> None:
        """Ends the spare processes. Call it after the last `run` has returned."""
        for slot in self._slots:
            slot.close()

    def run(self) -> None:
        """Runs one job after the other, each from the claim to the recorded outcome, until none may start.

        No job is claimed while what it needs is lacking.
        """
        with self._free_slot() as (slot, pause):
            slot.fault = None
            while True:
                pause.hold(slot.fault)
                try:
                    claim = self._claim()
                except OperationalError as error:
                    log.warning("no job claimed: %s", describe(error))
                    slot.fault = Sign(Fault.database)
                    continue
                if claim is None:
                    return
                if self._run_claimed(claim, slot) is Outcome.done:
                    pause.forget()

    @contextmanager
    def _free_slot(self) -> Iterator[tuple[GpuSlot, Pause]]:
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)

    def _claim(self) -> Claim | None:
        if self._stopping.is_set():
            return None
        with self._context.sessions.begin() as s:
            settings = self._context.settings
            return claims.claim_next(
                s,
                self._name,
                settings.lease_seconds,
                run_requests=settings.run_requests,
                gather_seconds=settings.gather_seconds,
            )

    def _run_claimed(self, claim: Claim, slot: GpuSlot) -> Outcome | None:
        """Runs one attempt, and returns its outcome; None if it couldn't be told.

        Leaves in `slot.fault` what its surroundings lacked.
        """
        slot.fault = None
        outcome = None
        try:
            self._wake_next()
            outcome = self._run_attempt(claim, slot)
            self._record_outcome(claim, outcome, slot.fault)
            self._start_spare(slot, claim.job.model)
        except Exception as error:  # else the lease expires, and the reaper queues the job again
            slot.fault = slot.fault or sign_of(error)
            log.error("job %s: %s: %s", claim.job.id, slot.fault or "failed", describe(error))
            if slot.fault is not None and slot.fault.fault is not Fault.database:
                self._record_outcome(claim, Outcome.surroundings, slot.fault)
        return outcome

    def _wake_next(self) -> None:
        """Wakes another worker if yet another job may start."""
        try:
            with self._context.sessions.begin() as s:
                another_waits = turns.next_job(s, gather_seconds=self._context.settings.gather_seconds) is not None
        except OperationalError as error:  # the reaper asks again
            log.warning("nobody knows whether another job waits: %s", describe(error))
        else:
            if another_waits:
                self._wake()

    def _start_spare(self, slot: GpuSlot, model: str) -> None:
        if not self._context.settings.warm or self._stopping.is_set():
            return
        try:
            slot.start_spare(model)
        except OSError as error:  # the machine is at its limits, and jobs do without a spare
            log.warning("no spare process: %s", describe(error))

    def _run_attempt(self, claim: Claim, slot: GpuSlot) -> Outcome:
        with work_folder() as folder:
            spec = AttemptSpec(claim.job.id, claim.token, folder)
            spare = slot.use_spare(spec, claim.job.model)
            if spare is not None:
                outcome = self._run_process(spare, "warm", claim, spec, slot)
                if outcome is not Outcome.crashed or spec.started:
                    return outcome
                log.warning("job %s: the spare process died before it began", claim.job.id)
            return self._run_process(slot.start_new(spec), "cold", claim, spec, slot)

    def _run_process(
        self, process: subprocess.Popen[bytes], start: str, claim: Claim, spec: AttemptSpec, slot: GpuSlot
    ) -> Outcome:
        """Watches the process, and ends it in any case. `start` is "warm" or "cold"."""
        log.info("job %s: attempt %d, %s start, process %d", claim.job.id, claim.job.attempt, start, process.pid)
        try:
            return self._watch(process, claim, spec, slot)
        finally:
            end_process(process, self._context.settings.cancel_grace_seconds)

    def _watch(self, process: subprocess.Popen[bytes], claim: Claim, spec: AttemptSpec, slot: GpuSlot) -> Outcome:
        """Renews the lease until the process has ended, or until the caller must end it."""
        settings = self._context.settings
        renewed = monotonic()
        next_heartbeat = renewed + settings.heartbeat_seconds
        spare_started = False
        while True:
            try:
                status = process.wait(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            else:
                log.info("job %s: attempt ended with status %d", claim.job.id, status)
                slot.fault = sign_of_status(status)
                return _outcome_of(status)
            if self._stopping.is_set():
                return Outcome.stopping
            if spec.loaded and not spare_started:
                # Not sooner: two processes would read the same model at once, and both would hold it in host memory.
                spare_started = True
                self._start_spare(slot, claim.job.model)
            if monotonic() < next_heartbeat:
                continue
            next_heartbeat = monotonic() + settings.heartbeat_seconds
            try:
                outcome = self._heartbeat(claim)
            except OperationalError as error:
                log.warning("no heartbeat: %s", describe(error))
                outcome = Outcome.lost if monotonic() - renewed > settings.lease_seconds else None
            else:
                renewed = monotonic()
            if outcome is not None:
                return outcome

    def _heartbeat(self, claim: Claim) -> Outcome | None:
        """Renews the lease. Returns an outcome if the attempt must end, else None."""
        settings = self._context.settings
        with self._context.sessions.begin() as s:
            answer = claims.heartbeat(s, claim.token, settings.lease_seconds)
        if not answer.held:
            return Outcome.lost
        if answer.cancel_requested:
            return Outcome.cancelled
        if answer.too_long:
            return Outcome.too_long
        limit = settings.loading_seconds if answer.phase is Phase.loading else settings.stall_seconds
        return Outcome.stalled if answer.stalled_for > limit else None

    def _record_outcome(self, claim: Claim, outcome: Outcome, fault: Sign | None) -> None:
        """Records the attempt's end where its process didn't. If it did after all, the stale token changes nothing."""
        if outcome in (Outcome.done, Outcome.lost):
            return
        log.warning("job %s: %s", claim.job.id, fault or outcome)
        settings = self._context.settings
        with self._context.sessions.begin() as s:
            if outcome is Outcome.cancelled:
                state = claims.cancelled(s, claim.token)
            elif outcome is Outcome.too_long:
                state = endings.end_too_long(s, claim.token)
            else:
                state = claims.release(
                    s,
                    claim.token,
                    max_attempts=settings.max_attempts,
                    refund=outcome in (Outcome.stopping, Outcome.surroundings),
                    reason=outcome if fault is None else fault.fault,
                    errno=None if fault is None else fault.errno,
                )
        if state is State.queued:
            self._wake()
        elif state is not None:  # the reaper deletes the uploads of others of its run that have ended, too
            delete_checkpoint(settings, claim.job.id)
            delete_inputs(self._context.sessions, self._context.blobs, claim.job.id)

    def _wake(self) -> None:
        try:
            self._context.queue.wake()
        except QueueUnavailable as error:
            log.warning("a job waits, and no worker can be woken: %s", describe(error))


def _outcome_of(status: int) -> Outcome:
    """What a process's exit status says of its attempt."""
    if sign_of_status(status) is not None:
        return Outcome.surroundings
    return Outcome.done if status == 0 else Outcome.crashed
