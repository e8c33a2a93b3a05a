"""How an attempt's process tells the supervisor, by its exit status alone, what its surroundings lack."""

from __future__ import annotations

from jobs.surroundings import Fault

# Above the statuses of Python's own errors, below those of signals. Their order is theirs for good.
_FIRST = 80
_FAULTS = (
    Fault.disk_full, Fault.read_only, Fault.storage, Fault.open_files, Fault.database, Fault.accelerator,
    Fault.signing_key,
)  # fmt: skip


def status_of(fault: Fault) -> int:
    """The exit status that stands for a fault."""
    return _FIRST + _FAULTS.index(fault)


def fault_of_status(status: int) -> Fault | None:
    """The fault that an exit status stands for; None for any other status."""
    number = status - _FIRST
    return _FAULTS[number] if 0 <= number < len(_FAULTS) else None
