"""The job's life, in one place: its states, and every step from one to another."""

from __future__ import annotations

from enum import StrEnum

from vgid_core.progress import Phase

__all__ = ["ENDED", "OPEN", "TRANSITIONS", "IllegalTransition", "Phase", "State", "checked"]


class State(StrEnum):
    """Where a job stands. Phases subdivide `running` only."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.queued: frozenset(
        {
            State.running,  # a worker claims it
            State.cancelled,  # cancelled before anybody claimed it
        }
    ),
    State.running: frozenset(
        {
            State.succeeded,  # the artifact is stored
            State.failed,  # the run raised, or the last attempt was lost (attempts exhausted)
            State.cancelled,  # a requested cancellation took effect
            State.queued,  # the lease expired, the run crashed, or the worker is shutting down
        }
    ),
    # The ends: nothing leaves them.
    State.succeeded: frozenset(),
    State.failed: frozenset(),
    State.cancelled: frozenset(),
}

ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
OPEN = frozenset(State) - ENDED


class IllegalTransition(Exception):
    """Somebody tried a step that TRANSITIONS doesn't know."""

    def __init__(self, current: State, new: State) -> None:
        super().__init__(f"a job that is {current} can't become {new}")
        self.current = current
        self.new = new


def checked(current: State, new: State) -> State:
    """`new`, if a job may go there from `current`. Raises IllegalTransition otherwise."""
    if new not in TRANSITIONS[current]:
        raise IllegalTransition(current, new)
    return new
