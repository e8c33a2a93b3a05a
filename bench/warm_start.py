"""Measures what a spare process saves: the time to a job's first training step, and between two jobs in a row.

    python -m bench.warm_start [--jobs 4]

Jobs have 16 pairs of the demo's and run on the CPU, first cold (VGID_WARM=false), then warm. Some arrive one at a time
at an idle worker. As many are then sent at once and run one after the other. Times are commit times from Postgres. It
also measures what a waiting spare costs: its memory, and its processor time. Exits with 1 if a warm start takes more
than half of a cold one's time. Writes bench/results/warm_start.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from bench.parts.machine import save, spread
from bench.serving.local_stack import commit_time, make_home, served, submit, until
from local.home import Home
from local.postgres import EmbeddedPostgres
from local.stack import Stack
from vgid_client import Client

BAR = 0.5  # of a cold start's time
_IDLE_SECONDS = 10.0
_STEPS = 30


def main() -> int:
    """Measures cold and warm starts, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home")
        with home.catalog.open("a") as catalog:
            catalog.write("\n[models.demo.config.evaluation]\nmax_pairs = 8\n")
        try:
            figures = {mode: _measure(home, mode == "warm", arguments.jobs) for mode in ("cold", "warm")}
        finally:
            EmbeddedPostgres(home.postgres).destroy()
    for mode, found in figures.items():
        for name, value in found.items():
            print(f"{mode}  {name:34s} {value}")
    share = figures["warm"]["loading_seconds"]["median"] / figures["cold"]["loading_seconds"]["median"]
    print(f"warm loading / cold loading: {share:.2f} (bar {BAR})")
    record = {"arguments": vars(arguments), "bar": BAR, "share": share, **figures}
    print("written:", save("warm_start", record, seed=None, runs=arguments.jobs))
    return 0 if share <= BAR else 1


def _measure(home: Home, warm: bool, jobs: int) -> dict[str, Any]:
    with served(home, warm=warm) as (stack, client):
        spare = until(lambda: _spare(home), "no spare") if warm else None
        idle = _idle_cost(spare) if spare else {}
        single = [_one_job(client, home, warm) for _ in range(jobs)]
        if warm:
            until(lambda: _spare(home), "no spare")
        chain = [submit(client, _STEPS) for _ in range(jobs + 1)]
        for job_id in chain:
            _ended(client, job_id)
        turns = [
            _at(stack, after, "phase", "distilling") - _at(stack, before, "state", "succeeded")
            for before, after in pairwise(chain)
        ]
        claims = [
            _at(stack, after, "state", "running") - _at(stack, before, "state", "succeeded")
            for before, after in pairwise(chain)
        ]
        return {
            "loading_seconds": spread([_between(stack, job, "loading", "baseline") for job in single]),
            "submit_to_distilling_seconds": spread(
                [_at(stack, job, "phase", "distilling") - _at(stack, job, "state", "queued") for job in single]
            ),
            "end_to_next_claim_seconds": spread(claims),
            "end_to_next_distilling_seconds": spread(turns),
            "job_seconds": spread(
                [_at(stack, j, "state", "succeeded") - _at(stack, j, "state", "running") for j in chain]
            ),
            **idle,
        }


def _one_job(client: Client, home: Home, warm: bool) -> str:
    """Runs a job that arrives at an idle worker, after its spare is ready if it has one."""
    if warm:
        until(lambda: _spare(home), "no spare")
    job_id = submit(client, _STEPS)
    _ended(client, job_id)
    time.sleep(1.0)
    return job_id


def _ended(client: Client, job_id: str) -> None:
    job = until(lambda: done if (done := client.get(job_id)).finished_at else None, "the job didn't end")
    if job.state != "succeeded":
        raise RuntimeError(f"job {job_id} ended as {job.state}")


def _between(stack: Stack, job_id: str, first: str, then: str) -> float:
    return _at(stack, job_id, "phase", then) - _at(stack, job_id, "phase", first)


def _at(stack: Stack, job_id: str, kind: str, value: str) -> float:
    at = commit_time(stack, job_id, kind, value)
    if at is None:
        raise RuntimeError(f"job {job_id} has no event {value}")
    return at


def _spare(home: Home) -> psutil.Process | None:
    """The worker's spare process, once it is ready."""
    log = (home.logs / "worker.log").read_text()
    for child in psutil.Process().children(recursive=True):
        ready, busy = f"attempt {child.pid} ready for" in log, f"start, process {child.pid}\n" in log
        if ready and not busy and child.status() != psutil.STATUS_ZOMBIE:
            return child
    return None


def _idle_cost(spare: psutil.Process) -> dict[str, float]:
    before = spare.cpu_times()
    time.sleep(_IDLE_SECONDS)
    after = spare.cpu_times()
    memory = spare.memory_full_info()
    return {
        "spare_own_memory_mib": memory.uss / 2**20,
        "spare_resident_memory_mib": memory.rss / 2**20,
        f"spare_processor_seconds_in_{_IDLE_SECONDS:.0f}": round(
            after.user + after.system - before.user - before.system, 3
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
