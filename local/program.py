"""Our own Python programs as leashed children, and the keeper that starts a dead child again."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Protocol

from local.errors import LocalError
from local.leash import start_leashed, stop

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_STEADY_SECONDS = 30.0


class Service(Protocol):
    """Something that runs as one child process. `process` is None while it doesn't."""

    name: str
    process: subprocess.Popen[bytes] | None

    def start(self) -> None:
        """Starts it. Raises LocalError."""

    def stop(self) -> None:
        """Ends it; does nothing when it isn't running."""


class Program:
    """A Python module as a service: `python -m <arguments>`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log_file
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, "-m", *arguments]
        self._environment = environment
        self._descriptors = descriptors

    def start(self) -> None:
        """Starts it; whether it works shows later."""
        # When this process is killed there is nobody left to wait for an orderly end, nor a database to write it to.
        self.process = start_leashed(
            self._command,
            log=self.log,
            environment=self._environment,
            death_signal=signal.SIGKILL,
            descriptors=self._descriptors,
        )

    def stop(self) -> None:
        """Ends it in its own orderly way, within 20 seconds."""
        if self.process is not None:
            stop(self.process, [(signal.SIGTERM, 20.0)])
            self.process = None


class Keeper:
    """Starts services again that died, more slowly each time, until it is stopped."""

    def __init__(self, services: Sequence[Service], on_start: Callable[[Service], None]) -> None:
        self._services = services
        self._on_start = on_start
        self._stopping = Event()
        self._stopped = Event()
        self._ended = Event()
        # The kernel ties what a thread starts to that thread: it must outlive the services (see `end`).
        self._thread = Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Starts nothing any more; returns when a start under way is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._stopped.wait()

    def end(self) -> None:
        """Lets the thread go. Call it when the services have been stopped."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        pauses = {service.name: _FIRST_PAUSE_SECONDS for service in self._services}
        due: dict[str, float] = {}
        up_since: dict[str, float] = {}
        while not self._stopping.wait(_LOOK_SECONDS):
            now = monotonic()
            for service in self._services:
                name = service.name
                if service.process is not None and service.process.poll() is None:
                    if now - up_since.setdefault(name, now) > _STEADY_SECONDS:
                        pauses[name] = _FIRST_PAUSE_SECONDS
                elif name not in due:
                    log.warning("%s ended; starting it again in %.1f s", name, pauses[name])
                    due[name] = now + pauses[name]
                    pauses[name] = min(2 * pauses[name], _LONGEST_PAUSE_SECONDS)
                elif now >= due[name]:
                    del due[name]
                    up_since.pop(name, None)
                    self._restart(service)
        self._stopped.set()
        self._ended.wait()

    def _restart(self, service: Service) -> None:
        try:
            service.start()
        except LocalError as error:
            log.error("%s", error)
        else:
            self._on_start(service)
