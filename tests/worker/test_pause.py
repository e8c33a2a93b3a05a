"""A worker's pauses, and the exit statuses that ask for them."""

from __future__ import annotations

from threading import Event

from jobs.queueing.queue import JobQueue
from jobs.surroundings import Fault
from worker.exit_status import fault_of_status, status_of
from worker.pause import Pause


class Waits(Event):
    """Remembers how long was to be waited, and doesn't."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        return False


def test_pauses_double_up_to_a_minute_and_begin_anew(redis_url: str) -> None:
    queue, waits = JobQueue(redis_url), Waits()
    pause = Pause(queue, "machine:1", waits)
    for _ in range(8):
        pause.wait(Fault.disk_full)
    assert waits.seconds == [1, 2, 4, 8, 16, 32, 60, 60]
    assert queue.pauses() == ["disk-full"]
    pause.over()
    assert queue.pauses() == []
    pause.wait(Fault.database)
    assert waits.seconds[-1] == 1
    queue.close()


def test_every_fault_has_a_status_of_its_own() -> None:
    assert [fault_of_status(status_of(fault)) for fault in Fault] == list(Fault)
    assert [fault_of_status(status) for status in (0, 1, -9, 137)] == [None] * 4
