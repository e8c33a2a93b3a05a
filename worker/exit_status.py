"""How an attempt's process tells the supervisor, by its exit status alone, what its surroundings lack."""

from __future__ import annotations

from jobs.surroundings import SIGNS, Sign

# Above the statuses of Python's own errors, below those of signals.
_FIRST = 80


def status_of(sign: Sign) -> int:
    """The exit status that stands for a fault, as this sign shows it."""
    return _FIRST + SIGNS.index(sign)


def sign_of_status(status: int) -> Sign | None:
    """The sign of a fault that an exit status stands for; None for any other status."""
    number = status - _FIRST
    return SIGNS[number] if 0 <= number < len(SIGNS) else None
