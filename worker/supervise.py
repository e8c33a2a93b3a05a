"""From an id to a finished attempt: claim the job, run it in a fresh process, watch it, write down how it went."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from queue import SimpleQueue
from threading import Event
from time import monotonic
from uuid import UUID

from sqlalchemy.exc import OperationalError

from jobs import claims
from jobs.catalog import Catalog, CatalogError
from jobs.claims import Claim
from jobs.database import SessionFactory
from jobs.queue import JobQueue, QueueUnavailable
from jobs.settings import Settings
from jobs.states import Phase, State
from jobs.storage.blobs import BlobStore
from jobs.storage.input_cleanup import delete_inputs
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import delete_checkpoint
from worker.describe import describe
from worker.gpu_slot import GpuSlot, end_process
from worker.work_folder import work_folder

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25  # how soon the end of a process or of this worker is noticed


class Outcome(StrEnum):
    """How an attempt's process ended, as far as the supervisor can tell. The values are slugs for the history."""

    done = "done"  # it wrote the job's end itself, or noticed that the job isn't ours
    crashed = "crashed"
    stalled = "stalled"
    cancelled = "cancelled"
    lost = "lost"  # the job was taken from us
    stopping = "worker_stopping"


@dataclass(frozen=True)
class WorkerContext:
    """What every attempt of this worker shares."""

    settings: Settings
    sessions: SessionFactory
    blobs: BlobStore
    queue: JobQueue


class Supervisor:
    """Runs jobs, one per thread that calls `run`, each in its own process and on its own accelerator.

    `gpus` are the accelerators to hand out; without any, an attempt sees whatever this process sees.
    """

    def __init__(self, context: WorkerContext, gpus: Sequence[str]) -> None:
        self._context = context
        self._name = f"{platform.node()}:{os.getpid()}"
        self._stopping = Event()
        spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
        shown: Sequence[str | None] = gpus or [None]
        self._slots = [GpuSlot(gpu, spawner) for gpu in shown]
        self._free: SimpleQueue[GpuSlot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def get_ready(self) -> None:
        """Has a spare process for the catalog's first model made ready at every accelerator. Call it before any job."""
        try:
            model = next(iter(Catalog.load(self._context.settings.catalog).models))
        except CatalogError as error:
            log.warning("nothing is made ready: %s", error)
            return
        for slot in self._slots:
            self._prepare(slot, model)

    def stop(self) -> None:
        """Ends the running attempts, which gives their jobs back, uncounted. Returns at once; takes no more jobs."""
        self._stopping.set()

    def close(self) -> None:
        """Ends the spare processes. Call it after the last `run` has returned."""
        for slot in self._slots:
            slot.close()

    def run(self, job_id: UUID) -> None:
        """One attempt at the job, from claim to outcome; does nothing if the job isn't there to be taken."""
        if self._stopping.is_set():
            return
        slot = self._free.get()
        try:
            with self._context.sessions.begin() as s:
                claim = claims.claim(s, job_id, self._name, self._context.settings.lease_seconds)
            if claim is not None:
                self._settle(claim, self._attempt(claim, slot))
                self._prepare(slot, claim.job.model)
        finally:
            self._free.put(slot)

    def _prepare(self, slot: GpuSlot, model: str) -> None:
        if not self._context.settings.warm or self._stopping.is_set():
            return
        try:
            slot.prepare(model)
        except OSError as error:  # a machine at its limits: the running job is worth more
            log.warning("no spare process: %s", describe(error))

    def _attempt(self, claim: Claim, slot: GpuSlot) -> Outcome:
        with work_folder() as folder:
            spec = AttemptSpec(claim.job.id, claim.token, folder)
            spare = slot.send_spare(spec, claim.job.model)
            if spare is not None:
                outcome = self._see_through(spare, "warm", claim, spec, slot)
                if outcome is not Outcome.crashed or spec.taken:
                    return outcome
                log.warning("job %s: the spare process died before it began", claim.job.id)
            return self._see_through(slot.send_new(spec), "cold", claim, spec, slot)

    def _see_through(
        self, process: subprocess.Popen[bytes], start: str, claim: Claim, spec: AttemptSpec, slot: GpuSlot
    ) -> Outcome:
        log.info("job %s: attempt %d, %s start, process %d", claim.job.id, claim.job.attempt, start, process.pid)
        try:
            return self._watch(process, claim, spec, slot)
        finally:
            end_process(process, self._context.settings.cancel_grace_seconds)

    def _watch(self, process: subprocess.Popen[bytes], claim: Claim, spec: AttemptSpec, slot: GpuSlot) -> Outcome:
        """Renews the lease until the process ends or must end; whoever calls this ends it."""
        settings = self._context.settings
        renewed = monotonic()
        next_heartbeat = renewed + settings.heartbeat_seconds
        prepared = False
        while True:
            try:
                status = process.wait(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            else:
                log.info("job %s: attempt ended with status %d", claim.job.id, status)
                return Outcome.done if status == 0 else Outcome.crashed
            if self._stopping.is_set():
                return Outcome.stopping
            if spec.loaded and not prepared:
                # Not sooner: two processes would read the same model at once, and both hold it in host memory.
                prepared = True
                self._prepare(slot, claim.job.model)
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
        """Renews the lease; an outcome if the attempt must end."""
        settings = self._context.settings
        with self._context.sessions.begin() as s:
            answer = claims.heartbeat(s, claim.job.id, claim.token, settings.lease_seconds)
        if not answer.held:
            return Outcome.lost
        if answer.cancel_requested:
            return Outcome.cancelled
        limit = settings.loading_seconds if answer.phase is Phase.loading else settings.stall_seconds
        return Outcome.stalled if answer.stalled_for > limit else None

    def _settle(self, claim: Claim, outcome: Outcome) -> None:
        """Writes the end of an attempt whose process didn't; the token makes this harmless if it did after all."""
        if outcome in (Outcome.done, Outcome.lost):
            return
        log.warning("job %s: %s", claim.job.id, outcome)
        settings = self._context.settings
        with self._context.sessions.begin() as s:
            if outcome is Outcome.cancelled:
                state = claims.cancelled(s, claim.job.id, claim.token)
            else:
                state = claims.release(
                    s,
                    claim.job.id,
                    claim.token,
                    max_attempts=settings.max_attempts,
                    refund=outcome is Outcome.stopping,
                    reason=outcome,
                )
        if state is State.queued:
            self._publish(claim.job.id)
        elif state is not None:
            delete_checkpoint(claim.job.id)
            delete_inputs(self._context.sessions, self._context.blobs, claim.job.id)

    def _publish(self, job_id: UUID) -> None:
        try:
            self._context.queue.publish(job_id)
        except QueueUnavailable as error:
            log.warning("job %s waits for the reaper: %s", job_id, describe(error))
