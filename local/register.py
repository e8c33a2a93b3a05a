"""Which processes a stack has started, on disk, so that the next start ends those that a killed one left.

A process is known by its id and its start time: ids are used again, both together practically never.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import psutil

from local.home import write_private

_PATIENCE_SECONDS = 5.0
_CLOCK_TOLERANCE_SECONDS = 1.0


class Register:
    """The file of one home. Only the stack that holds the home's lock may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started: dict[int, float] = {}

    def add(self, pid: int) -> None:
        """Notes a process that runs now."""
        self._started[pid] = psutil.Process(pid).create_time()
        write_private(self._path, json.dumps({str(key): value for key, value in self._started.items()}))

    def clear(self) -> None:
        """Forgets everything: all processes have ended."""
        self._started.clear()
        self._path.unlink(missing_ok=True)

    def end_leftovers(self) -> None:
        """Ends the processes that an earlier stack noted and that still run, with their own children."""
        found = self._leftovers()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stubborn = psutil.wait_procs(found, timeout=_PATIENCE_SECONDS)
        for process in stubborn:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=_PATIENCE_SECONDS)
        self.clear()

    def _leftovers(self) -> list[psutil.Process]:
        try:
            noted = {int(key): float(value) for key, value in json.loads(self._path.read_text()).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return []
        found: list[psutil.Process] = []
        for pid, started in noted.items():
            try:
                process = psutil.Process(pid)
                if abs(process.create_time() - started) < _CLOCK_TOLERANCE_SECONDS:
                    found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found
