"""Celery's thread pool, except that a task's end wakes the loop that fetches the next one."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class WakingPool(TaskPool):  # type: ignore[misc]
    """Without this, the loop looks whether a thread is free at its next timer only, up to a second later."""

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Has a thread run the task."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_wake)
        return result


def _wake(_: Any) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)  # type: ignore[no-untyped-call]


def _nothing() -> None:
    pass
