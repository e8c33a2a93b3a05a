"""A TCP relay in front of a server, which breaks connections as bad networks and some proxies do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Passes bytes between clients and the port `target`.

    cuts: for each coming connection, after how many bytes of the answer it is cut; None, or no entry: never.
    refuse_streams: closes the connection when an event stream begins.
    """

    target: int
    cuts: list[int | None] = field(default_factory=list)
    refuse_streams: bool = False
    streams_refused: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        """Passes one connection on, until either side or a cut ends it."""
        with client, socket.create_connection(("127.0.0.1", self.target)) as upstream:
            threading.Thread(target=_pump, args=(client, upstream), daemon=True).start()
            try:
                self._answer(upstream, client, self.cuts.pop(0) if self.cuts else None)
            finally:
                # Without a shutdown, neither side notices the close while the other thread waits for bytes.
                for end in (client, upstream):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _answer(self, upstream: socket.socket, client: socket.socket, left: int | None) -> None:
        while data := _read(upstream):
            if self.refuse_streams and b"content-type: text/event-stream" in data:
                self.streams_refused += 1
                return
            client.sendall(data if left is None else data[:left])
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay that listens until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Relay(target, port=listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, running), daemon=True).start()
        yield running
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, running: Relay) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve_quietly, args=(running, client), daemon=True).start()


def _serve_quietly(running: Relay, client: socket.socket) -> None:
    with suppress(OSError):
        running.serve(client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _read(upstream: socket.socket) -> bytes:
    with suppress(OSError):
        return upstream.recv(65536)
    return b""
