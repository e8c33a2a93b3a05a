"""Serves the API on a socket that the stack has opened: python -m local.serve DESCRIPTOR

The stack holds the socket as long as it lives. So no other program can take the port between two starts of the API,
and a request that arrives meanwhile waits instead of being refused.
"""

from __future__ import annotations

import socket
import sys

from api.server import serve


def main() -> None:
    """Serves until SIGTERM."""
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
