"""The queue: a message holds a job's id alone, and an unreachable queue is reported."""

from __future__ import annotations

import base64
import json
import socket
from time import monotonic
from uuid import uuid4

import pytest
import redis

from jobs.queue import QUEUE_NAME, JobQueue, QueueUnavailable


def test_a_message_holds_the_id_and_nothing_else(queue: JobQueue, redis_url: str) -> None:
    job_id = uuid4()
    queue.publish(job_id)
    queue.ping()
    assert queue.depth() == 1
    with redis.Redis.from_url(redis_url) as client:
        message = json.loads(client.lpop(QUEUE_NAME))
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([str(job_id)], {})
    assert queue.depth() == 0


def test_an_unreachable_queue_fails_quickly_and_hides_its_password() -> None:
    queue = JobQueue("redis://:hunter2@127.0.0.1:1/0")
    started = monotonic()
    for attempt in (lambda: queue.publish(uuid4()), queue.depth, queue.ping):
        with pytest.raises(QueueUnavailable) as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
    assert monotonic() - started < 5
    queue.close()


def test_a_queue_that_never_answers_is_given_up_within_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        queue = JobQueue(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for attempt in (lambda: queue.publish(uuid4()), queue.depth, queue.ping):
            started = monotonic()
            with pytest.raises(QueueUnavailable):
                attempt()
            assert monotonic() - started < 4
        queue.close()


def test_a_dropped_connection_is_replaced(queue: JobQueue, redis_url: str) -> None:
    queue.publish(uuid4())
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    queue.publish(uuid4())
    assert queue.depth() == 2
