"""A Celery worker with one task that only answers when it ran, for `bench.counter.queue_latency` to compare with.

    python -m bench.serving.bare_celery REDIS_URL

`bench.counter.queue_latency` starts this command and sends the tasks.
"""

from __future__ import annotations

import argparse
import time

import redis
from celery import Celery

TASK = "bench.say_when"
ANSWERS = "bench-answers"


def bare_app(redis_url: str) -> Celery:
    """The Celery app with its one task."""
    app = Celery("bench", broker=redis_url)
    app.conf.update(task_default_queue="bench", task_ignore_result=True, worker_pool="threads", worker_concurrency=1)
    answers = redis.Redis.from_url(redis_url)

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def say_when(sent: float) -> None:
        """Answers with the seconds since `sent`."""
        answers.rpush(ANSWERS, str(time.time() - sent))

    return app


def main() -> None:
    """Runs the worker until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("redis_url")
    bare_app(parser.parse_args().redis_url).worker_main(["worker", "--without-gossip"])


if __name__ == "__main__":
    main()
