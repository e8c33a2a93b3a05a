"""Celery's thread pool, changed so that the end of a task wakes the loop that fetches the next one."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class WakingPool(TaskPool):  # type: ignore[misc]
    """A thread pool that wakes Celery's event loop at the end of each task.

    Celery's own loop looks for a free thread at its next timer only, up to a second later.
    """

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task in a thread."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_wake)
        return result


def _wake(_: Any) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)  # type: ignore[no-untyped-call]


def _nothing() -> None:
    pass
