"""Measures the time from a job's commit to a worker's claim, beside a bare Celery task on the same embedded Redis.

    python -m bench.counter.queue_latency [--jobs 40] [--stored 100000]

Jobs are sent one at a time over HTTP to an idle worker. Both times are commit times from Postgres
(track_commit_timestamp). Each job is cancelled once it is claimed. Spare processes are off, since one would start
during the next measurement. The bare task's time runs from just before it is sent to its first line. `--stored` first
fills the ledger with so many ended jobs. Exits with 1 if the median is over 100 ms. Writes
bench/results/queue_latency[_<stored>].json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
from celery import Celery

from bench.parts.machine import save, spread
from bench.serving.bare_celery import ANSWERS, TASK, bare_app
from bench.serving.local_stack import commit_time, make_home, served, submit, until
from bench.serving.rows import store_ended
from local.postgres import EmbeddedPostgres
from local.stack import Stack
from vgid_client import Client

BAR_SECONDS = 0.100


def main() -> int:
    """Measures both in turn, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--stored", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home")
        try:
            with served(home, warm=False, heartbeat_seconds=0.1, lease_seconds=10) as (stack, client):
                if arguments.stored:
                    store_ended(stack.database_url, arguments.stored)
                claims, tasks = _measure(stack, client, arguments.jobs)
        finally:
            EmbeddedPostgres(home.postgres).destroy()
    figures = {"commit_to_claim_seconds": _summary(claims), "bare_task_seconds": _summary(tasks)}
    for name, found in figures.items():
        print(f"{name:26s}" + "".join(f"  {key} {value * 1000:6.1f} ms" for key, value in found.items()))
    name = f"queue_latency_{arguments.stored}" if arguments.stored else "queue_latency"
    record = {"arguments": vars(arguments), "bar_seconds": BAR_SECONDS, **figures}
    print("written:", save(name, record, seed=None, runs=arguments.jobs))
    return 0 if figures["commit_to_claim_seconds"]["median"] <= BAR_SECONDS else 1


def _measure(stack: Stack, client: Client, jobs: int) -> tuple[list[float], list[float]]:
    bare = bare_app(stack.redis_url)
    command = [sys.executable, "-m", "bench.serving.bare_celery", stack.redis_url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            with redis.Redis.from_url(stack.redis_url) as answers:
                _task(bare, answers)  # the first of each opens connections, so it isn't counted
                _claim(stack, client)
                pairs = [(_claim(stack, client), _task(bare, answers)) for _ in range(jobs)]
        finally:
            worker.terminate()
    return [claim for claim, _ in pairs], [task for _, task in pairs]


def _claim(stack: Stack, client: Client) -> float:
    """Seconds from commit to claim of one job."""
    job_id = submit(client, steps=1)
    claimed = until(lambda: commit_time(stack, job_id, "state", "running"), "no worker took the job")
    sent = commit_time(stack, job_id, "state", "queued")
    client.cancel(job_id)
    until(lambda: client.get(job_id).finished_at, "the job didn't end")
    time.sleep(0.5)  # the worker ends the job's process
    assert sent is not None
    return claimed - sent


def _task(bare: Celery, answers: redis.Redis) -> float:
    """Seconds from sending to running of one bare task."""
    bare.send_task(TASK, [time.time()])
    answer = answers.blpop([ANSWERS], timeout=30)
    if answer is None:
        raise SystemExit("the bare task never ran")
    return float(answer[1])


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {**spread(seconds), "p95": ordered[int(0.95 * (len(ordered) - 1))]}


if __name__ == "__main__":
    sys.exit(main())
