"""The local stack: Postgres, Redis, the API and one worker, as child processes of this process."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from jobs.catalog import Catalog, CatalogError
from jobs.clients import access
from jobs.database import make_engine, session_factory
from jobs.lines import releases, rollback
from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.tables import Job, Right
from local.demo_catalog import ensure_catalog
from local.errors import LocalError
from local.home import Home, write_private
from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis
from local.supervisor import PidFile, Program, Supervisor
from migrations.roles import Room, grant
from migrations.runner import upgrade

_READY_SECONDS = 60.0
_FIRST_PORT = 8000
_PORTS_TRIED = 100
_LOCAL_CLIENT = "local"
_ROLES = {Room.api: "vgid_api", Room.worker: "vgid_worker"}
# The demo's small model trains fastest on one thread. Progress bars and a deprecation that PEFT causes would fill the
# worker's log.
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
}


class Stack:
    """Runs the services within `with Stack(home) as stack:`, and restarts those that die.

    port: the API's; None takes 8000 or the next free one. Enter the block in a thread that lives as long as the stack.
    """

    def __init__(self, home: Path, port: int | None = None) -> None:
        self.home = Home(home)
        self.postgres = EmbeddedPostgres(self.home.postgres)
        self.redis = EmbeddedRedis(self.home.folder / "redis")
        self._wanted_port = port
        self._port = 0
        self._undo = ExitStack()

    @property
    def api_url(self) -> str:
        """The API's URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database_url(self) -> str:
        """The ledger's URL, for the owner of its tables."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """The queue's URL."""
        return self.redis.url

    @property
    def environment(self) -> dict[str, str]:
        """The stack's settings as VGID_* variables, together with those of this process, which they override."""
        given = {name: value for name, value in os.environ.items() if name.startswith("VGID_")}
        return given | {
            "VGID_DATABASE_URL": self.database_url,
            "VGID_REDIS_URL": self.redis_url,
            "VGID_BLOB_DIR": str(self.home.blobs),
            "VGID_CATALOG": str(self.home.catalog),
            "VGID_SECRET_KEY": self.home.secret_key(),
            "VGID_SIGNING_KEYS": str(self.home.signing_keys),
            "VGID_KEYS": str(self.home.public_keys),
            "VGID_API_URL": self.api_url,
        }

    def create_key(self, name: str, rights: Collection[Right] = ()) -> str:
        """Makes an API key for the client `name` and returns its secret, which can't be read later.

        Makes the client too, if it is new.
        """
        engine = make_engine(self._settings())
        try:
            with session_factory(engine).begin() as s:
                client = access.find_client(s, name) or access.create_client(s, name)
                return access.create_key(s, client, rights)[1]
        finally:
            engine.dispose()

    def take_back_releases(self, model: str, external_id: str, reason: str) -> None:
        """Takes back the model's releases, the newest first, as far as jobs with this id have made them."""
        engine = make_engine(self._settings())
        try:
            with session_factory(engine).begin() as s:
                while (found := releases.current(s, model)) and s.get_one(Job, found.job_id).external_id == external_id:
                    rollback.revert(s, model, reason)
        finally:
            engine.dispose()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self.home.locked())
            pid_file = PidFile(self.home.pid_file)
            pid_file.end_leftovers()
            listening = undo.enter_context(_listen(self._wanted_port))
            self._port = listening.getsockname()[1]
            ensure_catalog(self.home)
            self._check_catalog()
            self._start_services(undo.enter_context(Supervisor(pid_file)), listening.fileno())
            self._wait_until_ready()
            self._ensure_local_key()
            self.home.write_environment(self.environment | {"VGID_API_KEY": self.home.api_key.read_text().strip()})
            undo.callback(lambda: self.home.environment.unlink(missing_ok=True))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._undo.close()

    def _start_services(self, supervisor: Supervisor, listening: int) -> None:
        """Starts each service after those on which it depends."""
        for server in (self.postgres, self.redis):
            supervisor.start(server)
        upgrade(self.database_url)
        for room, role in _ROLES.items():
            grant(self.database_url, room, role)
        self._ensure_signing_key()
        for program in self._programs(listening):
            supervisor.start(program)
        supervisor.watch()

    def _programs(self, listening: int) -> list[Program]:
        environment = os.environ | self.environment
        api_environment = environment | {"VGID_DATABASE_URL": self.postgres.url_for(_ROLES[Room.api])}
        worker_environment = (
            _WORKER_ENVIRONMENT | environment | {"VGID_DATABASE_URL": self.postgres.url_for(_ROLES[Room.worker])}
        )
        serve = ["local.serve", str(listening)]
        work = ["celery", "-A", "worker.celery_app:app", "worker", "--loglevel", "INFO"]
        return [
            Program("api", serve, api_environment, self.home.logs / "api.log", [listening]),
            Program("worker", work, worker_environment, self.home.logs / "worker.log"),
        ]

    def _wait_until_ready(self) -> None:
        # A proxy from the environment can't reach this machine's loopback address.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = monotonic() + _READY_SECONDS
        while monotonic() < deadline:
            try:
                with direct.open(f"{self.api_url}/readyz", timeout=2):
                    return
            except OSError:
                sleep(0.05)
        raise LocalError(f"the API isn't ready after {_READY_SECONDS:.0f} s; the logs are in {self.home.logs}")

    def _ensure_local_key(self) -> None:
        """Makes the client `local` and its key file, unless the file's key is valid and has all rights."""
        path = self.home.api_key
        engine = make_engine(self._settings())
        try:
            with session_factory(engine)() as s:
                holder = access.authenticate(s, path.read_text().strip()) if path.exists() else None
        finally:
            engine.dispose()
        if holder is None or holder.rights != set(Right):
            write_private(path, self.create_key(_LOCAL_CLIENT, list(Right)) + "\n")

    def _ensure_signing_key(self) -> None:
        """Makes a signing key unless one can sign, and writes all public halves where `vgid verify` looks."""
        engine = make_engine(self._settings())
        try:
            with session_factory(engine).begin() as s:
                try:
                    signing_keys.private_key(s, self.home.signing_keys)
                except signing_keys.SigningKeyMissing:
                    signing_keys.create(s, self.home.signing_keys)
                public = signing_keys.key_file(s)
        finally:
            engine.dispose()
        write_private(self.home.public_keys, public.model_dump_json(indent=2) + "\n")

    def _settings(self) -> Settings:
        return Settings(
            database_url=self.database_url,
            redis_url=self.redis_url,
            blob_dir=self.home.blobs,
            catalog=self.home.catalog,
            secret_key=SecretStr(self.home.secret_key()),
        )

    def _check_catalog(self) -> None:
        try:
            Catalog.load(self.home.catalog)
        except CatalogError as error:
            raise LocalError(f"{error}\nCorrect {self.home.catalog}, or delete it to get the demo's again.") from error


def _listen(wanted: int | None) -> socket.socket:
    """Opens a socket on the wanted port, or on 8000 or the next free one. Raises LocalError when no port is free."""
    for port in range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED) if wanted is None else [wanted]:
        try:
            return socket.create_server(("127.0.0.1", port), backlog=128)
        except OSError:
            continue
    if wanted is not None:
        raise LocalError(f"port {wanted} is taken; choose another one with --port")
    raise LocalError(f"no free port from {_FIRST_PORT} on; choose one with --port")
