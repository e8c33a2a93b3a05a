"""The alternative that `bench.queue_latency` compares with: a Celery task that says when it ran, and nothing else."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery

URL = os.environ["BENCH_REDIS_URL"]
ANSWERS = "bench-answers"

app = Celery("bench", broker=URL)
app.conf.update(task_default_queue="bench", task_ignore_result=True, worker_pool="threads", worker_concurrency=1)
_redis = redis.Redis.from_url(URL)


@app.task(name="bench.say_when")
def say_when(sent: float) -> None:
    """Answers with the seconds since `sent`."""
    _redis.rpush(ANSWERS, str(time.time() - sent))
