"""Runs the check of a request in a process that can be killed: for time, for memory, or since nobody waits any more."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.to_process
from starlette.requests import ClientDisconnect, Request

from api.forget_requests.check_meter import CheckMeter, CheckNotes, processor_seconds, seconds_used
from api.forget_requests.request_check import UncheckedRequest, limit_memory
from api.problems import FieldError, InternalError, InvalidRequest

Checked = TypeVar("Checked")
Check = Callable[[UncheckedRequest, CheckMeter], Checked]

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 1.0  # after which a check goes on at a lower priority
_LOW_PRIORITY = 10


class TooDear(Exception):
    """The check took more processor time than it may have as a whole."""


@dataclass
class CheckCost:
    """What a check has cost, however it ended. seconds: of processor time. pixels: of decoded images."""

    seconds: float = 0.0
    pixels: int = 0


async def check_in_process(
    check: Check[Checked], unchecked: UncheckedRequest, http: Request, seconds: float, cost: CheckCost
) -> Checked:
    """Runs the check in another process, which is killed when the client hangs up, or when it takes too long.

    seconds: of processor time, at most. Raises what `check` raises, TooDear, InvalidRequest where one image or the wait
    takes too long, and ClientDisconnect. Fills `cost`, also where it raises.
    """
    outcome: Checked | Exception | None = None
    gone = late = False
    seen: float | None = None

    def kill() -> None:
        nonlocal seen
        notes = CheckNotes.read(unchecked.notes)
        seen = None if notes is None else processor_seconds(notes.pid)
        tasks.cancel_scope.cancel()

    async def watch() -> None:
        nonlocal gone
        while (await http.receive())["type"] != "http.disconnect":
            pass
        gone = True
        kill()

    async def wait() -> None:
        nonlocal late
        await anyio.sleep(unchecked.limits.seconds)
        late = True
        kill()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            tasks.start_soon(wait)
            try:
                outcome = await anyio.to_process.run_sync(
                    _bounded, check, unchecked, seconds, cancellable=True, limiter=anyio.CapacityLimiter(1)
                )
            except Exception as error:  # raised below: the task group would wrap it
                outcome = error
            tasks.cancel_scope.cancel()
    finally:
        notes = CheckNotes.read(unchecked.notes)
        cost.seconds, cost.pixels = seconds_used(notes, seen), 0 if notes is None else notes.pixels
    if gone:
        raise ClientDisconnect
    if late:
        raise InvalidRequest.of([FieldError(f"takes more than {unchecked.limits.seconds:g} s to check")])
    if isinstance(outcome, anyio.BrokenWorkerProcess):
        log.warning("the check of a request ended with its process", exc_info=outcome)
        raise _reason(notes, unchecked.limits.images.max_seconds)
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None  # neither raised nor cancelled
    return outcome


async def keep_spare() -> None:
    """Makes sure that a process is left for the next check, once one is taken: starting one takes a second or more."""

    async def use() -> None:
        with suppress(anyio.BrokenWorkerProcess):  # a check that needs a process itself says so
            await anyio.to_process.run_sync(_do_nothing, limiter=anyio.CapacityLimiter(1))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):  # both at once, so that each has a process
            tasks.start_soon(use)


def _do_nothing() -> None:
    """Runs in another process, which has loaded this module afterwards."""


def _reason(notes: CheckNotes | None, image_seconds: float) -> Exception:
    """Why a check's process has ended by itself."""
    if notes is None:
        return InternalError()
    if notes.whole or notes.place is None:
        return TooDear()
    detail = f"takes more than {image_seconds:g} s of processor time to decode"
    return InvalidRequest.of([FieldError(detail, notes.place)])


def _bounded(check: Check[Checked], unchecked: UncheckedRequest, seconds: float) -> Checked:
    """Runs in the other process, which keeps its limit of memory.

    The check gets a thread: on Linux a priority is a thread's, and can't be raised again.
    """
    limit_memory(unchecked.limits.memory_bytes)
    meter = CheckMeter(unchecked.notes, seconds, unchecked.limits.images.max_seconds)
    with meter, ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_patiently, check, unchecked, meter).result()


def _patiently(check: Check[Checked], unchecked: UncheckedRequest, meter: CheckMeter) -> Checked:
    """Lowers this thread's priority once the check has taken a while, so that others' small ones pass it."""
    timer = threading.Timer(_PATIENCE_SECONDS, _lower_priority, [threading.get_native_id()])
    timer.start()
    try:
        return check(unchecked, meter)
    finally:
        timer.cancel()


def _lower_priority(thread_id: int) -> None:
    with suppress(OSError):  # other systems know no threads here
        os.setpriority(os.PRIO_PROCESS, thread_id, _LOW_PRIORITY)
