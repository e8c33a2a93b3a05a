"""Runs the check of a request in a process that can be killed: for time, for memory, or since nobody waits any more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_process
from starlette.requests import ClientDisconnect, Request

from api.forget_requests.request_check import UncheckedRequest, decoding_of, limit_memory
from api.problems import FieldError, InternalError, InvalidRequest

Checked = TypeVar("Checked")

log = logging.getLogger(__name__)


async def check_in_process(
    check: Callable[[UncheckedRequest], Checked], unchecked: UncheckedRequest, http: Request, seconds: float
) -> Checked:
    """Runs the check in another process, which is killed when the client hangs up or after so many seconds.

    Raises what `check` raises, InvalidRequest where the process was killed, and ClientDisconnect. `decoding_of` tells
    what it has decoded, however it ended.
    """
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await http.receive())["type"] != "http.disconnect":
            pass
        gone = True
        tasks.cancel_scope.cancel()

    checked: Checked | Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            checked = await _checked(check, unchecked, seconds)
        except Exception as error:  # raised below: the task group would wrap it
            checked = error
        tasks.cancel_scope.cancel()
    if gone or checked is None:
        raise ClientDisconnect
    if isinstance(checked, Exception):
        raise checked
    return checked


async def _checked(
    check: Callable[[UncheckedRequest], Checked], unchecked: UncheckedRequest, seconds: float
) -> Checked:
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_process.run_sync(
                _within_memory, check, unchecked, cancellable=True, limiter=anyio.CapacityLimiter(1)
            )
    except TimeoutError:
        raise InvalidRequest.of([FieldError(f"takes more than {seconds:g} s to check")]) from None
    except anyio.BrokenWorkerProcess as error:
        log.warning("the check of a request ended with its process", exc_info=error)
    decoding = decoding_of(unchecked)
    if decoding is None:
        raise InternalError
    seconds = unchecked.limits.images.max_seconds
    raise InvalidRequest.of([FieldError(f"takes more than {seconds:g} s of processor time to decode", decoding.place)])


def _within_memory(check: Callable[[UncheckedRequest], Checked], unchecked: UncheckedRequest) -> Checked:
    """Runs in the other process, which keeps its limit."""
    limit_memory(unchecked.limits.memory_bytes)
    return check(unchecked)
