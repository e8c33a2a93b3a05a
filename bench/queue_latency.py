"""From a submission's commit to a worker's claim, beside a bare Celery task over the same embedded Redis.

    python -m bench.queue_latency [--jobs 40] [--stored 100000]

One job at a time, through HTTP, to a worker that waits. Both ends are commit times of Postgres's own
(track_commit_timestamp). The job is cancelled as soon as it is claimed; it starts cold, so that no spare process gets
ready beside the next measurement. The bare task's time is from just before its sending to its first line.
`--stored` fills the ledger with so many ended jobs first. Exit status 1 if the median is over 100 ms. Writes
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

from bench.bare_celery import ANSWERS, TASK, bare_app
from bench.machine import save, spread
from bench.served import committed, make_home, served, submit, until
from bench.serving.rows import store_ended
from local.postgres import EmbeddedPostgres
from local.stack import Stack
from vgid_client import Client

BAR_SECONDS = 0.100


def main() -> int:
    """Measures both by turns and writes what was found."""
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
    command = [sys.executable, "-m", "bench.bare_celery", stack.redis_url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            with redis.Redis.from_url(stack.redis_url) as answers:
                _task(bare, answers)  # the first of each connects
                _claim(stack, client)
                pairs = [(_claim(stack, client), _task(bare, answers)) for _ in range(jobs)]
        finally:
            worker.terminate()
    return [claim for claim, _ in pairs], [task for _, task in pairs]


def _claim(stack: Stack, client: Client) -> float:
    """Seconds from commit to claim of one job."""
    job_id = submit(client, steps=1)
    claimed = until(lambda: committed(stack, job_id, "state", "running"), "no worker took the job")
    sent = committed(stack, job_id, "state", "queued")
    client.cancel(job_id)
    until(lambda: client.get(job_id).finished_at, "the job didn't end")
    time.sleep(0.5)  # the worker takes its process down
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
