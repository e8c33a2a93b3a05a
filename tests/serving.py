"""Servers of the tests, all on one event loop: so they share the processes in which requests are checked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import uvicorn

from tests.waiting import eventually


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Runs an event loop in a thread until the block ends."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    loop, stop = started.result()
    yield loop
    loop.call_soon_threadsafe(stop.set)
    thread.join(timeout=20)


@contextmanager
def serving(config: uvicorn.Config, loop: asyncio.AbstractEventLoop) -> Iterator[int]:
    """Serves on the loop until the block ends. Gives the port."""
    server = uvicorn.Server(config)
    ended = asyncio.run_coroutine_threadsafe(server.serve(), loop)
    try:
        eventually(lambda: server.started, every=0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        ended.result(timeout=20)
