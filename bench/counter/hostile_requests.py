"""Measures what hostile requests cost: the API's time and memory, and how long others wait meanwhile.

    python -m bench.counter.hostile_requests

Attacks of clients: a body of empty pairs, images that are dear to decode, uploads that stay open or announce no length.
Attacks without a key: heads and trailers without an end, connections that send nothing, requests that wait for no
answer, bodies in chunks of one byte. Meanwhile /healthz is asked ten times a second, and another client files a
request. Prints a table, writes bench/results/hostile_requests.json, and exits with 3 if a bar is missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import cast

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.counter.attacks_by_clients import (
    BODY,
    CHUNKED_QUOTA,
    MIB,
    chunked_uploads,
    connected,
    empty_pairs,
    file_request,
    held_uploads,
    new_key,
    progressive_jpegs,
    slow_images,
)
from bench.parts.bars import exit_if_missed
from bench.parts.machine import save
from bench.serving.stack import BenchStack, private_stack

CONNECTIONS = 1100
HEAD_SECONDS = 15.0
OTHER_SECONDS = 8.0
OTHER_PEER = "127.0.0.2"  # the address that asks /healthz, since limits are per address
BARS = {
    "empty pairs: seconds": 3.0,
    "empty pairs: memory of the check, of the body": 3.0,
    "empty pairs: /healthz p99, ms": 100.0,
    "slow images: another client's request, s": 10.0,
    "progressive JPEGs: a third client's request, s": 5.0,
    "chunked uploads: on disk, of the quota": 1.05,
    "chunked uploads: uncounted, of the quota": 0.0,
    "held uploads: memory of the API, MiB": 200.0,
    "endless heads: processor seconds": 1.0,
    "silent connections: /healthz unanswered": 0.0,
    "endless trailers: memory of the API, MiB": 50.0,
    "pipelined requests: /healthz p99, ms": 100.0,
    "tiny chunks: /healthz p99, ms": 100.0,
}
HEAD = b"GET / HTTP/1.1\r\nHost: bench\r\nX-Long: "
PIPELINE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000
CHUNKED = b"POST /unlearn-jobs HTTP/1.1\r\nHost: bench\r\nTransfer-Encoding: chunked\r\n\r\n"

Figure = float | tuple[float, float] | None


@dataclass(frozen=True)
class Watched:
    """What was seen during an attack. Memory is what was added, in bytes; health: seconds, of those answered."""

    seconds: float
    processor: float
    api_memory: int
    check_memory: int
    health: list[float]
    unanswered: int

    @property
    def health_p99(self) -> float:
        """In milliseconds."""
        return float(np.percentile(self.health, 99) * 1000) if self.health else float("inf")


def main() -> None:
    """Measures, prints, saves. Exits with the missed bars."""
    with private_stack() as stack:
        other = new_key(stack, "another")
        file_request(stack, other)  # starts a process for checks, as the first request of a day does
        attacks: dict[str, Callable[[], Figure]] = {
            "empty pairs": lambda: empty_pairs(stack),
            "slow images": lambda: slow_images(stack, other),
            "progressive JPEGs": lambda: progressive_jpegs(stack, other),
            "held uploads": lambda: held_uploads(stack),
            "chunked uploads": lambda: chunked_uploads(stack),
            "endless heads": lambda: _flood(stack, HEAD, b"x" * 65536, 4, HEAD_SECONDS),
            "silent connections": lambda: _silent_connections(stack),
            "endless trailers": lambda: _endless_trailers(stack),
            "pipelined requests": lambda: _flood(stack, b"", PIPELINE, 4, OTHER_SECONDS),
            "tiny chunks": lambda: _flood(stack, CHUNKED, b"1\r\na\r\n" * 10_000, 8, OTHER_SECONDS),
        }
        seen, figures = {}, {}
        for name, attack in attacks.items():
            seen[name], figures[name] = _watched(stack, attack)
    bars = _bars(seen, figures)
    _print(seen, bars)
    record = {"attacks": {name: asdict(watched) for name, watched in seen.items()}, "figures": bars, "bars": BARS}
    print("written:", save("hostile_requests", record, seed=None, runs=1))
    exit_if_missed([f"{name} {bars[name]:.2f} > {most:g}" for name, most in BARS.items() if bars[name] > most])


def _bars(seen: dict[str, Watched], figures: dict[str, Figure]) -> dict[str, float]:
    on_disk, left = cast(tuple[float, float], figures["chunked uploads"])
    return {
        "empty pairs: seconds": cast(float, figures["empty pairs"]),
        "empty pairs: memory of the check, of the body": seen["empty pairs"].check_memory / BODY,
        "empty pairs: /healthz p99, ms": seen["empty pairs"].health_p99,
        "slow images: another client's request, s": cast(float, figures["slow images"]),
        "progressive JPEGs: a third client's request, s": cast(float, figures["progressive JPEGs"]),
        "chunked uploads: on disk, of the quota": on_disk * MIB / CHUNKED_QUOTA,
        "chunked uploads: uncounted, of the quota": left,
        "held uploads: memory of the API, MiB": seen["held uploads"].api_memory / MIB,
        "endless heads: processor seconds": seen["endless heads"].processor,
        "silent connections: /healthz unanswered": float(seen["silent connections"].unanswered),
        "endless trailers: memory of the API, MiB": seen["endless trailers"].api_memory / MIB,
        "pipelined requests: /healthz p99, ms": seen["pipelined requests"].health_p99,
        "tiny chunks: /healthz p99, ms": seen["tiny chunks"].health_p99,
    }


def _endless_trailers(stack: BenchStack) -> None:
    """One trailer without an end on two connections, then many short ones."""
    for more in (b"x" * 65536, b"a: b\r\n" * 10_000):
        _flood(stack, CHUNKED + b"1\r\na\r\n0\r\nX: ", more, 2, OTHER_SECONDS / 2)


def _flood(stack: BenchStack, first: bytes, more: bytes, connections: int, seconds: float) -> None:
    """Connections that send `first`, then `more` as often as it is taken. One that is closed is made anew."""

    def send() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError), connected(stack) as connection:
                connection.sendall(first)
                while time.monotonic() < until:
                    connection.sendall(more)
            time.sleep(0.2)

    senders = [threading.Thread(target=send) for _ in range(connections)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()


def _silent_connections(stack: BenchStack) -> None:
    """As many connections as a process may commonly have files open, and nothing on them."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            with suppress(OSError):
                held.enter_context(connected(stack))
        time.sleep(5)


def _watched(stack: BenchStack, attack: Callable[[], Figure]) -> tuple[Watched, Figure]:
    """Runs the attack. Returns what it cost, and its own figure."""
    api = psutil.Process(stack.api.process)
    over = threading.Event()
    health: list[float] = []
    unanswered = api_peak = check_peak = 0

    def ask() -> None:
        nonlocal unanswered
        while not over.wait(0.1):
            began = time.perf_counter()
            try:
                with httpx.Client(transport=httpx.HTTPTransport(local_address=OTHER_PEER), timeout=10) as another:
                    another.get(f"http://127.0.0.1:{stack.api.port}/healthz").raise_for_status()
                health.append(time.perf_counter() - began)
            except httpx.HTTPError:
                unanswered += 1

    def weigh() -> None:
        nonlocal api_peak, check_peak
        while not over.wait(0.02):
            api_peak = max(api_peak, api.memory_info().rss)
            check_peak = max(check_peak, _memory_of_checks(api))

    before, checks_before = api.memory_info().rss, _memory_of_checks(api)
    watchers = [threading.Thread(target=watch) for watch in (ask, weigh)]
    for watcher in watchers:
        watcher.start()
    began, processor = time.perf_counter(), sum(api.cpu_times()[:2])
    figure = attack()
    seconds, processor = time.perf_counter() - began, sum(api.cpu_times()[:2]) - processor
    over.set()
    for watcher in watchers:
        watcher.join()
    return Watched(seconds, processor, api_peak - before, check_peak - checks_before, health, unanswered), figure


def _memory_of_checks(api: psutil.Process) -> int:
    """Of the API's child processes, bytes."""
    total = 0
    for child in api.children():
        with suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total


def _print(seen: dict[str, Watched], bars: dict[str, float]) -> None:
    table = Table("attack", "seconds", "API: processor s", "API: MiB", "checks: MiB", "/healthz p99, ms", "unanswered")
    for name, watched in seen.items():
        memory = (f"{watched.api_memory / MIB:.0f}", f"{watched.check_memory / MIB:.0f}")
        times = (f"{watched.seconds:.1f}", f"{watched.processor:.1f}")
        table.add_row(name, *times, *memory, f"{watched.health_p99:.0f}", str(watched.unanswered))
    Console(width=120).print(table)
    for name, value in bars.items():
        print(f"{name}: {value:.2f} (bar: at most {BARS[name]:g})")


if __name__ == "__main__":
    main()
