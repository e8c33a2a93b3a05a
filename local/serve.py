"""Serves the API on a socket that the stack has opened: python -m local.serve DESCRIPTOR

The stack holds the socket as long as it lives. So no other program can take the port between two starts of the API,
and a request that arrives meanwhile waits instead of being refused.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

_GRACE_SECONDS = 5


def main() -> None:
    """Serves until SIGTERM."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(
        "api.main:create_app_from_environment",
        factory=True,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
