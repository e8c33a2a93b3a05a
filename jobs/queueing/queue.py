"""The queue in Redis and its only sender. A message says that a job waits, not which. Losing the queue loses no job."""

from __future__ import annotations

from collections.abc import Collection

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

QUEUE_NAME = "vgid"
TASK_NAME = "vgid.work"

_PAUSED = "vgid-paused:"

_TIMEOUTS = {"socket_connect_timeout": 1.0, "socket_timeout": 1.0}
# One retry: a pooled connection fails once after Redis has restarted. If Redis is down, the reaper wakes later.
_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}


class QueueUnavailable(Exception):
    """Redis can't be reached. Nothing is lost, since the reaper wakes a worker later."""


class JobQueue:
    """The Redis list that workers read. Thread-safe; connects when first used."""

    def __init__(self, redis_url: str) -> None:
        self._sender = Celery("vgid", broker=redis_url, set_as_current=False)
        self._sender.conf.update(task_ignore_result=True, broker_transport_options=dict(_TIMEOUTS))
        self._redis = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1), **_TIMEOUTS)

    def wake(self) -> None:
        """Wakes an idle worker, since a job waits. Call it after the commit. Raises QueueUnavailable.

        A wake-up that no worker has fetched yet is enough: who fetches it sees this job, too, and wakes the next worker
        if more jobs wait. So the list doesn't grow while all workers are busy.
        """
        if self.depth() > 0:
            return
        try:
            self._sender.send_task(TASK_NAME, queue=QUEUE_NAME, ignore_result=True, retry=True, retry_policy=_RETRIES)
        except (OperationalError, redis.RedisError, OSError) as error:
            raise QueueUnavailable(type(error).__name__) from error

    def depth(self) -> int:
        """How many wake-ups no worker has fetched yet. Raises QueueUnavailable."""
        try:
            return int(self._redis.llen(QUEUE_NAME))
        except (redis.RedisError, OSError) as error:
            raise QueueUnavailable(type(error).__name__) from error

    def report_pause(self, worker: str, reasons: Collection[str], seconds: float) -> None:
        """Notes for so long why a worker takes no job; no reason ends that. Raises QueueUnavailable.

        reasons: slugs.
        """
        key = f"{_PAUSED}{worker}"
        try:
            if reasons:
                self._redis.set(key, " ".join(reasons), px=int(seconds * 1000))
            else:
                self._redis.delete(key)
        except (redis.RedisError, OSError) as error:
            raise QueueUnavailable(type(error).__name__) from error

    def pauses(self) -> list[str]:
        """Why workers take no job, each reason of each that doesn't. Raises QueueUnavailable."""
        try:
            found = [self._redis.get(key) for key in self._redis.scan_iter(f"{_PAUSED}*")]
        except (redis.RedisError, OSError) as error:
            raise QueueUnavailable(type(error).__name__) from error
        return [reason for reasons in found if isinstance(reasons, bytes) for reason in reasons.decode().split()]

    def ping(self) -> None:
        """Returns when Redis answers. Raises QueueUnavailable."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError) as error:
            raise QueueUnavailable(type(error).__name__) from error

    def close(self) -> None:
        """Closes the connections."""
        self._sender.close()
        self._redis.close()
