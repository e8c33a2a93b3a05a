"""The queue: a message says nothing but that a job waits, and an unreachable queue is reported."""

from __future__ import annotations

import base64
import json
import socket

import pytest
import redis

from jobs.queueing.queue import QUEUE_NAME, JobQueue, QueueUnavailable


def test_a_message_says_nothing_but_that_a_job_waits(queue: JobQueue, redis_url: str) -> None:
    queue.wake()
    queue.ping()
    assert queue.depth() == 1
    with redis.Redis.from_url(redis_url) as client:
        message = json.loads(client.lpop(QUEUE_NAME))
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {})
    assert queue.depth() == 0


def test_a_wake_up_that_waits_is_enough(queue: JobQueue, redis_url: str) -> None:
    queue.wake()
    queue.wake()
    assert queue.depth() == 1
    with redis.Redis.from_url(redis_url) as client:
        client.lpop(QUEUE_NAME)
    queue.wake()
    assert queue.depth() == 1


def test_an_unreachable_queue_is_reported_without_its_password() -> None:
    queue = JobQueue("redis://:hunter2@127.0.0.1:1/0")
    for attempt in (queue.wake, queue.depth, queue.ping):
        with pytest.raises(QueueUnavailable) as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
    queue.close()


def test_a_queue_that_never_answers_is_tried_once_more_and_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.setblocking(False)
        queue = JobQueue(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for attempt in (queue.wake, queue.depth, queue.ping):
            with pytest.raises(QueueUnavailable):
                attempt()
            assert connections_to(silent) == 2
        queue.close()


def connections_to(listening: socket.socket) -> int:
    """How many were made since the last call."""
    for count in range(100):
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError("connections without end")


def test_a_dropped_connection_is_replaced(queue: JobQueue, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        queue.wake()
        client.flushall()
        client.client_kill_filter(_type="normal", skipme=True)
        queue.wake()
    assert queue.depth() == 1
