"""The kinds of jobs, and their state machine: its states, and every transition from one to another."""

from __future__ import annotations

from enum import StrEnum

from vgid_core.progress import Phase

__all__ = [
    "ENDED", "OPEN", "SHARED_LINE", "TRANSITIONS", "IllegalTransition", "Kind", "Phase", "State", "check_transition"
]  # fmt: skip

SHARED_LINE = ""  # of all clients of a model; another line is named by the id of the client that has it for itself


class Kind(StrEnum):
    """What a job does. All go through the same states."""

    unlearn = "unlearn"  # trains an adapter, and measures it
    evaluate = "evaluate"  # measures an adapter that there is, or the base
    rebuild = "rebuild"  # trains a line's adapter anew from the base, for everybody of whom there is a replay set


class State(StrEnum):
    """A job's state. Phases subdivide `running` only."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.queued: frozenset(
        {
            State.running,  # a worker claims it
            State.cancelled,  # it is cancelled before any claim
        }
    ),
    State.running: frozenset(
        {
            State.succeeded,  # the artifact is stored, or an evaluation has measured
            State.failed,  # the run raised an error, or the last attempt was lost (attempts exhausted)
            State.cancelled,  # the worker has stopped the run on request
            State.queued,  # the lease expired, the run crashed, or the worker is shutting down
        }
    ),
    # Final states.
    State.succeeded: frozenset(),
    State.failed: frozenset(),
    State.cancelled: frozenset(),
}

ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
OPEN = frozenset(State) - ENDED


class IllegalTransition(Exception):
    """The transition isn't in TRANSITIONS."""

    def __init__(self, current: State, new: State) -> None:
        super().__init__(f"a job that is {current} can't become {new}")
        self.current = current
        self.new = new


def check_transition(current: State, new: State) -> State:
    """Returns `new` if a job in `current` may go there. Raises IllegalTransition otherwise."""
    if new not in TRANSITIONS[current]:
        raise IllegalTransition(current, new)
    return new
