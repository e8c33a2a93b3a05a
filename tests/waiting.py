"""Waits for a condition that another process or thread fulfils."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TypeVar

Value = TypeVar("Value")


def eventually(condition: Callable[[], Value], *, seconds: float = 20.0, every: float = 0.05) -> Value:
    """Waits until `condition` returns something true, and returns that. Raises AssertionError after `seconds`."""
    deadline = monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert monotonic() < deadline, f"still {value!r} after {seconds} s"
        Event().wait(every)
