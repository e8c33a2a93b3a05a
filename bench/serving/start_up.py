"""Measures how long `vgid up` takes until it is ready, on a fresh home and on an existing one.

    python -m bench.serving.start_up [--runs 5] [--stored 100000]

It also measures the lower limit, which is the start of Postgres (with initdb on a fresh home) and Redis alone, and when
the worker is ready, for which `vgid up` doesn't wait. With `--stored`, it compares one home with an empty ledger and
with so many ended jobs instead. Exits with 1 if a median is over 6 s. Writes bench/results/start_up[_<stored>].json.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.parts.machine import save, spread
from bench.serving.local_stack import until
from bench.serving.rows import store_ended
from local.child_process import start_child, stop_child
from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis

BAR_SECONDS = 6.0
_READY = "Stop it with Ctrl-C"


def main() -> int:
    """Measures, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stored", type=int, default=0)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {}
    rounds = _stored_ups(arguments.stored, arguments.runs) if arguments.stored else _rounds(arguments.runs)
    for measured in rounds:
        for name, seconds in measured.items():
            found.setdefault(name, []).append(seconds)
    figures: dict[str, Any] = {name: spread(seconds) for name, seconds in found.items()}
    for name, value in figures.items():
        print(f"{name:40s}" + "".join(f"  {key} {seconds:5.2f} s" for key, seconds in value.items()))
    name = f"start_up_{arguments.stored}" if arguments.stored else "start_up"
    record = {"arguments": vars(arguments), "bar_seconds": BAR_SECONDS, **figures}
    print("written:", save(name, record, seed=None, runs=arguments.runs))
    slowest = max(value["median"] for name, value in figures.items() if name.startswith("up_"))
    return 0 if slowest <= BAR_SECONDS else 1


def _rounds(runs: int) -> Iterator[dict[str, float]]:
    for _ in range(runs):
        yield _up() | _servers_alone()


def _stored_ups(stored: int, runs: int) -> Iterator[dict[str, float]]:
    """Seconds of one home's starts, first with an empty ledger, then with a full one."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        postgres = EmbeddedPostgres(home / "postgres")
        try:
            _one_up(home)
            for ledger in ("empty", "full"):
                if ledger == "full":
                    with postgres:
                        store_ended(postgres.url, stored)
                for _ in range(runs):
                    yield {f"{what}_{ledger}_ledger_seconds": value for what, value in _one_up(home).items()}
        finally:
            postgres.destroy()


def _up() -> dict[str, float]:
    """Seconds until `vgid up` is ready, and until its worker is, on a fresh home and then on the same one again."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        try:
            for name in ("fresh", "existing"):
                seconds |= {f"{what}_{name}_home_seconds": value for what, value in _one_up(home).items()}
        finally:
            EmbeddedPostgres(home / "postgres").destroy()
    return seconds


def _one_up(home: Path) -> dict[str, float]:
    output, log = home.parent / "output.txt", home / "logs" / "worker.log"
    for old in (output, log):
        old.unlink(missing_ok=True)
    started = time.monotonic()
    command: list[str | Path] = [Path(sys.executable).with_name("vgid"), "up", "--home", home]
    process = start_child(command, log=output)
    try:
        up = until(lambda: _elapsed(started, process, output, _READY), "vgid up isn't ready", 60)
        worker = until(lambda: _elapsed(started, process, log, r" ready\.\n"), "the worker isn't ready", 60)
    finally:
        stop_child(process, [(signal.SIGINT, 30.0)])
    return {"up": up, "worker": worker}


def _elapsed(started: float, process: subprocess.Popen[bytes], file: Path, words: str) -> float | None:
    if process.poll() is not None:
        raise RuntimeError(f"vgid up ended: {file.read_text()}")
    return time.monotonic() - started if file.exists() and re.search(words, file.read_text()) else None


def _servers_alone() -> dict[str, float]:
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            for name in ("fresh", "existing"):
                started = time.monotonic()
                with postgres, EmbeddedRedis(Path(folder) / "redis"):
                    seconds[f"servers_alone_{name}_home_seconds"] = time.monotonic() - started
        finally:
            postgres.destroy()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
