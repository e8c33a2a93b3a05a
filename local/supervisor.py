"""Supervises services as child processes: starts them, restarts those that die, and stops all in the end.

Keeps their logs bounded meanwhile.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

import psutil

from local.child_process import start_child, stop_child
from local.log_file import rotate

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_STEADY_SECONDS = 30.0  # a service that has run for so long starts with the first pause again
_LEFTOVER_SECONDS = 5.0
_CLOCK_TOLERANCE_SECONDS = 1.0


class Service(Protocol):
    """A service that runs as one child process. `process` is None while it doesn't run."""

    name: str
    log: Path
    process: subprocess.Popen[bytes] | None

    def start(self) -> None:
        """Starts it. Raises LocalError."""

    def stop(self) -> None:
        """Ends it. Does nothing when it isn't running."""


class Program:
    """A Python module as a service: `python -m <arguments>`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, "-m", *arguments]
        self._environment = environment
        self._descriptors = descriptors

    def start(self) -> None:
        """Starts it, without waiting until it is ready."""
        # SIGKILL: once this process is killed, the database is gone too, so an orderly end is of no use.
        self.process = start_child(
            self._command,
            log=self.log,
            environment=self._environment,
            death_signal=signal.SIGKILL,
            descriptors=self._descriptors,
        )

    def stop(self) -> None:
        """Ends it in order, or kills it after 20 seconds."""
        if self.process is not None:
            stop_child(self.process, [(signal.SIGTERM, 20.0)])
            self.process = None


class PidFile:
    """The file that lists a stack's processes, so that the next start can end those that a killed stack has left.

    It identifies a process by its id and start time, because the system reuses ids. Only the process that holds the
    home's lock may use the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """Adds a process, unless it has ended already."""
        with suppress(psutil.NoSuchProcess), self._path.open("a") as file:
            file.write(f"{pid} {psutil.Process(pid).create_time()}\n")

    def clear(self) -> None:
        """Deletes the file, once all its processes have ended."""
        self._path.unlink(missing_ok=True)

    def end_leftovers(self) -> None:
        """Ends the listed processes that still run, and their children."""
        found = self._leftovers()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(found, timeout=_LEFTOVER_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=_LEFTOVER_SECONDS)
        self.clear()

    def _leftovers(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            with suppress(ValueError, psutil.NoSuchProcess):  # a truncated line, or a process that has ended
                pid, started = line.split()
                process = psutil.Process(int(pid))
                if abs(process.create_time() - float(started)) < _CLOCK_TOLERANCE_SECONDS:
                    found += [process, *process.children(recursive=True)]
        return found


@dataclass
class _Child:
    """A service and its restarts. Times are those of `monotonic`. `restart_at` is None unless a restart is due.

    log_fault: why its log couldn't be bounded, as it was said last.
    """

    service: Service
    up_since: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    restart_at: float | None = None
    log_fault: str = ""


class Supervisor:
    """Runs services until its block ends, then stops them in reverse order.

    The kernel ties a child to the thread that started it. So the block must run in a thread that lives until its end,
    and the thread that restarts services must also be the one that stops them.
    """

    def __init__(self, pid_file: PidFile) -> None:
        self._pid_file = pid_file
        self._children: list[_Child] = []
        self._stopping = Event()
        self._watcher = Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, service: Service) -> None:
        """Starts the service. Raises LocalError."""
        self._children.append(_Child(service))
        self._start(self._children[-1])

    def watch(self) -> None:
        """From now on, restarts each service that dies, after a longer pause each time, and bounds logs."""
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        else:
            self._stop_all()

    def _watch(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            for child in self._children:
                self._restart_if_dead(child)
                self._bound_log(child)
        self._stop_all()

    def _bound_log(self, child: _Child) -> None:
        try:
            rotate(child.service.log)
            child.log_fault = ""
        except OSError as error:  # a full disk, for example: the services still need this thread
            if child.log_fault != str(error):
                log.error("%s's log: %s", child.service.name, error)
            child.log_fault = str(error)

    def _restart_if_dead(self, child: _Child) -> None:
        now, process = monotonic(), child.service.process
        if process is not None and process.poll() is None:
            if now - child.up_since > _STEADY_SECONDS:
                child.pause = _FIRST_PAUSE_SECONDS
        elif child.restart_at is None:
            log.warning("%s has ended; restarting it in %.1f s", child.service.name, child.pause)
            child.restart_at = now + child.pause
            child.pause = min(2 * child.pause, _LONGEST_PAUSE_SECONDS)
        elif now >= child.restart_at:
            child.restart_at = None
            try:
                self._start(child)
            except Exception as error:  # the other services still need this thread, and the next restart may succeed
                log.error("%s: %s", child.service.name, error)

    def _start(self, child: _Child) -> None:
        child.service.start()
        child.up_since = monotonic()
        if child.service.process is not None:
            self._pid_file.add(child.service.process.pid)

    def _stop_all(self) -> None:
        with ExitStack() as stops:  # calls each of them in reverse order, whatever the others raise
            stops.callback(self._pid_file.clear)
            for child in self._children:
                stops.callback(child.service.stop)
