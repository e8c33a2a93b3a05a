"""The supervisor restarts services that die and stops all in the end. The PID file finds what a killed stack left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local import log_file
from local.child_process import start_child, stop_child
from local.errors import LocalError
from local.supervisor import PidFile, Supervisor
from tests.waiting import eventually

_WAIT = [sys.executable, "-c", "import signal; signal.pause()"]

_TALK = """
import time
for number in range(10**9):
    print(f"line {number}", flush=True)
    time.sleep(0.0005)
"""


class Waiter:
    """A service that waits for its end, and notes each start and stop. Its next `failures` starts fail."""

    def __init__(self, name: str, folder: Path, notes: list[str]) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.command = _WAIT
        self.log = folder / f"{name}.log"
        self._notes = notes

    def start(self) -> None:
        self._notes.append(f"start {self.name}")
        self.process = None
        if self.failures:
            self.failures -= 1
            raise LocalError("not now")
        self.process = start_child(self.command, log=self.log)

    def stop(self) -> None:
        self._notes.append(f"stop {self.name}")
        if self.process is not None:
            stop_child(self.process, [])
            self.process = None


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def first(tmp_path: Path, notes: list[str]) -> Waiter:
    return Waiter("first", tmp_path, notes)


@pytest.fixture
def second(tmp_path: Path, notes: list[str]) -> Waiter:
    return Waiter("second", tmp_path, notes)


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start_child(_WAIT, log=tmp_path / "log")
    yield process
    stop_child(process, [])


def test_a_dead_service_is_restarted_even_if_that_fails_at_first(tmp_path: Path, first: Waiter):
    with Supervisor(PidFile(tmp_path / "pids")) as supervisor:
        supervisor.start(first)
        killed = first.process
        supervisor.watch()
        first.failures = 1

        killed.kill()

        again = eventually(lambda: first.process if first.process is not killed else None)
        assert psutil.pid_exists(again.pid)
    assert again.poll() is not None


def test_the_last_service_is_stopped_first_and_no_process_is_left(
    tmp_path: Path, first: Waiter, second: Waiter, notes: list[str]
):
    with Supervisor(PidFile(tmp_path / "pids")) as supervisor:
        for service in (first, second):
            supervisor.start(service)
        supervisor.watch()
        pids = [service.process.pid for service in (first, second)]
        assert all(psutil.pid_exists(pid) for pid in pids)

    assert notes == ["start first", "start second", "stop second", "stop first"]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (tmp_path / "pids").exists()


def test_a_service_that_cant_start_leaves_none_of_the_others_running(tmp_path: Path, first: Waiter, second: Waiter):
    pids: list[int] = []

    def start_both() -> None:
        with Supervisor(PidFile(tmp_path / "pids")) as supervisor:
            supervisor.start(first)
            pids.append(first.process.pid)
            supervisor.start(second)

    second.failures = 1
    with pytest.raises(LocalError):
        start_both()
    assert not psutil.pid_exists(pids[0])


def test_logs_stay_bounded_and_private_while_a_service_writes(
    tmp_path: Path, first: Waiter, second: Waiter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_file, "MOST_BYTES", 1000)
    first.command = second.command = [sys.executable, "-c", _TALK]
    (tmp_path / "first.log.2").mkdir()  # what can't be moved is one log's trouble, and nobody else's

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in tmp_path.glob("second.log*")}

    with Supervisor(PidFile(tmp_path / "pids")) as supervisor:
        for service in (first, second):
            supervisor.start(service)
        written_before = second.process
        supervisor.watch()
        eventually(lambda: len(files()) == 1 + log_file.KEPT)
        newest = tmp_path / "second.log.1"
        seen = newest.read_text()
        eventually(lambda: newest.read_text() != seen)  # the child goes on writing to the file that was cut
        assert second.process is written_before
    assert set(files()) == {"second.log", *(f"second.log.{number}" for number in range(1, 1 + log_file.KEPT))}
    assert all(size <= 1000 for name, size in files().items() if name != "second.log")
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("second.log*"))
    assert "\0" not in newest.read_text(), "the child writes at the end, wherever that is"


def test_a_listed_process_is_ended(tmp_path: Path, neighbour: subprocess.Popen[bytes]):
    PidFile(tmp_path / "pids").add(neighbour.pid)

    PidFile(tmp_path / "pids").end_leftovers()

    assert not psutil.pid_exists(neighbour.pid)
    assert not (tmp_path / "pids").exists()


def test_another_process_with_the_same_id_is_left_alone(tmp_path: Path, neighbour: subprocess.Popen[bytes]):
    started = psutil.Process(neighbour.pid).create_time()
    (tmp_path / "pids").write_text(f"{neighbour.pid} {started - 60}\n")

    PidFile(tmp_path / "pids").end_leftovers()

    assert neighbour.poll() is None


def test_a_truncated_file_still_works(tmp_path: Path, neighbour: subprocess.Popen[bytes]):
    pids = PidFile(tmp_path / "pids")
    pids.add(neighbour.pid)
    with (tmp_path / "pids").open("a") as file:
        file.write("12")

    pids.end_leftovers()

    assert not psutil.pid_exists(neighbour.pid)
