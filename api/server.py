"""Serves the API: python -m api.server [--host 127.0.0.1] [--port 8000]

It is uvicorn with limits on connections (`api.limits.connections`). Plain `uvicorn --factory api.main:...` has none.
"""

from __future__ import annotations

import argparse
import resource
import socket
from typing import Any

import uvicorn

from api.limits.connections import bounded_protocol
from api.limits.peers import ConnectionLimits
from jobs.settings import Settings, get_settings

_OTHER_FILES = 200  # open at once besides connections: of the database, of Redis, of bodies and artifacts
_GRACE_SECONDS = 5


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m api.server", description="Serves the API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    serve(host=arguments.host, port=arguments.port)


def serve(listening: socket.socket | None = None, **options: Any) -> None:
    """Serves until SIGTERM, on an open socket or where uvicorn's `options` say."""
    config = uvicorn.Config(
        "api.main:create_app_from_environment",
        factory=True,
        http=bounded_protocol(limits_of(get_settings(), _open_files())),
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        **options,
    )
    uvicorn.Server(config).run(sockets=None if listening is None else [listening])


def limits_of(settings: Settings, open_files: int) -> ConnectionLimits:
    """The settings' limits, with as few connections as so many open files allow."""
    return ConnectionLimits(
        most=max(1, min(settings.max_connections, open_files - _OTHER_FILES)),
        most_per_peer=settings.max_connections_per_peer,
        head_bytes=settings.max_head_bytes,
        head_seconds=settings.head_seconds,
        body_rate=settings.min_body_rate,
    )


def _open_files() -> int:
    """How many files this process may have open, raised to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


if __name__ == "__main__":
    main()
