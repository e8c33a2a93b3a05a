"""A service for the benches in a temporary folder: Postgres, Redis, the API and the bare route, without a worker."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psutil
from pydantic import SecretStr
from sqlalchemy import Engine

from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.settings import Settings
from jobs.storage.blobs import FileBlobStore
from local.child_process import start_child, stop_child
from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis, free_port
from local.supervisor import Program
from migrations.runner import upgrade

_START_SECONDS = 60.0
_MOST = 1_000_000_000
# A bench asks for more than an office.
NO_QUOTA = ClientLimits(
    requests_per_minute=_MOST, upload_bytes_per_hour=10**15, pixels_per_hour=10**15, processor_seconds_per_hour=_MOST,
    uploads_at_once=_MOST, queued_jobs=_MOST, queued_pairs=_MOST, queued_steps=_MOST,
)  # fmt: skip
_CATALOG = """
[models.demo]
path = "model"
title = "A model that no worker loads"
[models.demo.retain_sets.demo-retain]
retain = "retain.jsonl"
"""
_NGINX = """
daemon off;
worker_processes 1;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Server(NamedTuple):
    """Where a server of one process listens, and the process's id."""

    port: int
    process: int


@dataclass(frozen=True)
class BenchStack:
    """The running service and the connections to it. `key` is an API key of the client `client_id`."""

    settings: Settings
    engine: Engine
    sessions: SessionFactory
    blobs: FileBlobStore
    api: Server
    bare: Server
    client_id: UUID
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request to the API."""
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def private_stack() -> Iterator[BenchStack]:
    """Runs the service until the block ends, then deletes its folder."""
    with ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix="vgid-bench-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = EmbeddedPostgres(folder / "postgres")
        undo.callback(postgres.destroy)
        postgres.start()
        redis = undo.enter_context(EmbeddedRedis(folder / "redis"))
        upgrade(postgres.url)
        settings = _settings(folder, postgres.url, redis.url)
        api, bare = (_serve(undo, name, settings, folder) for name in ("local.serve", "bench.serving.bare"))
        for server in (api, bare):
            _wait_until_open(server.port)
        engine = make_engine(settings)
        undo.callback(engine.dispose)
        sessions = session_factory(engine)
        with sessions.begin() as s:
            client = access.create_client(s, "bench")
            access.set_limits(s, client, NO_QUOTA)
            key = access.create_key(s, client)[1]
        blobs = FileBlobStore(settings.blob_dir)
        yield BenchStack(settings, engine, sessions, blobs, api, bare, client.id, key)


@contextmanager
def nginx(root: Path) -> Iterator[Server | None]:
    """Runs nginx with one worker for the files below `root`. Gives None if no nginx is on the PATH."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vgid-bench-nginx-") as name:
        folder, port = Path(name), free_port()
        configuration = folder / "nginx.conf"
        user = "root" if os.getuid() == 0 else "nobody"  # only the owner reads the files, and only root sets a user
        configuration.write_text(_NGINX.format(user=user, folder=folder, port=port, root=root))
        process = start_child([program, "-c", configuration], log=folder / "nginx.log")
        try:
            _wait_until_open(port)
            (worker,) = psutil.Process(process.pid).children()
            yield Server(port, worker.pid)
        finally:
            stop_child(process, [(signal.SIGTERM, _START_SECONDS)])  # a killed nginx would leave its worker behind


def _settings(folder: Path, database_url: str, redis_url: str) -> Settings:
    catalog = folder / "catalog.toml"
    catalog.write_text(_CATALOG)
    (folder / "model").mkdir()
    (folder / "retain.jsonl").touch()
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        blob_dir=folder / "blobs",
        catalog=catalog,
        secret_key=SecretStr(base64.b64encode(secrets.token_bytes(32)).decode()),
    )


def _serve(undo: ExitStack, module: str, settings: Settings, folder: Path) -> Server:
    """Starts a uvicorn process for this module."""
    listening = undo.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
    environment = os.environ | {
        "VGID_DATABASE_URL": settings.database_url,
        "VGID_REDIS_URL": settings.redis_url,
        "VGID_BLOB_DIR": str(settings.blob_dir),
        "VGID_CATALOG": str(settings.catalog),
        "VGID_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    log = folder / f"{module}.log"
    program = Program(module, [module, str(listening.fileno())], environment, log, [listening.fileno()])
    undo.callback(program.stop)
    program.start()
    assert program.process is not None
    return Server(listening.getsockname()[1], program.process.pid)


def _wait_until_open(port: int) -> None:
    """Waits until a server answers there. Raises RuntimeError after a minute."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_START_SECONDS) as server:
                server.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if server.recv(1):
                    return
        except ConnectionError:
            time.sleep(0.05)
    raise RuntimeError("a server of the bench hasn't started")
