"""Quotas of clients over time: requests, bytes, pixels and processor time, counted in Redis.

Windows begin at full minutes and hours, so that one call of Redis counts a request and tells what is left.
Where Redis can't be reached nothing is counted and everything passes: a request that is filed counts more than a quota.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.errors import StorageError
from redis.asyncio import ConnectionPool

from api.problems import QuotaExceeded
from jobs.clients.limits import ClientLimits

log = logging.getLogger(__name__)

_MINUTE, _HOUR = 60, 3600
_REDIS_SECONDS = 0.5  # for one answer of Redis
_SILENT_SECONDS = 5.0  # without asking Redis again, after it couldn't be reached


@dataclass(frozen=True)
class Policy:
    """So many units in a window of so many seconds. name: as the headers have it."""

    name: str
    quota: int
    seconds: int

    @property
    def header(self) -> str:
        """The item of `RateLimit-Policy`."""
        return f'"{self.name}";q={self.quota};w={self.seconds}'


@dataclass(frozen=True)
class Remaining:
    """What is left of a policy's quota, and the seconds until its window ends. exceeded: more was asked for."""

    policy: Policy
    units: int
    seconds: int
    exceeded: bool

    @property
    def header(self) -> str:
        """The item of `RateLimit`."""
        return f'"{self.policy.name}";r={self.units};t={self.seconds}'

    def refusal(self) -> QuotaExceeded:
        """For the client who has asked for more."""
        detail = f"The quota of {self.policy.name} is {self.policy.quota} in {self.policy.seconds} s."
        return QuotaExceeded(detail, retry_after=self.seconds)


def request_policy(limits: ClientLimits) -> Policy:
    """Requests of any kind."""
    return Policy("requests", limits.requests_per_minute, _MINUTE)


def bytes_policy(limits: ClientLimits) -> Policy:
    """Bytes of forget requests."""
    return Policy("bytes", limits.upload_bytes_per_hour, _HOUR)


def pixels_policy(limits: ClientLimits) -> Policy:
    """Pixels of images that are decoded."""
    return Policy("pixels", limits.pixels_per_hour, _HOUR)


def processor_policy(limits: ClientLimits) -> Policy:
    """Processor time of checks."""
    return Policy("processor-milliseconds", limits.processor_seconds_per_hour * 1000, _HOUR)


class Quotas:
    """Counts what clients use, in one Redis for all processes of the API."""

    def __init__(self, redis_url: str) -> None:
        """Connects to nothing yet."""
        self._pool = ConnectionPool.from_url(
            redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        )
        self._storage = RedisStorage(
            f"async+{redis_url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="vgid-quota",
            connection_pool=self._pool,  # type: ignore[arg-type]  # an option for redis-py, as documented
        )
        self._silent_until = -math.inf

    async def charge(self, client_id: UUID, policy: Policy, units: int) -> Remaining | None:
        """Counts the units, also where they are more than was left, and says so. None without Redis."""
        used = await self._count(client_id, policy, units)
        return None if used is None else _remaining(policy, used, exceeded=used > policy.quota)

    async def foresee(self, client_id: UUID, policy: Policy, units: int) -> Remaining | None:
        """Counts nothing. Says what is left, and whether the units would be more. None without Redis."""
        used = await self._count(client_id, policy, 0)
        return None if used is None else _remaining(policy, used, exceeded=used + units > policy.quota)

    async def _count(self, client_id: UUID, policy: Policy, units: int) -> int | None:
        """Adds the units to what the client has used in this window, and returns that. None without Redis."""
        if time.monotonic() < self._silent_until:
            return None
        item = RateLimitItemPerSecond(policy.quota, policy.seconds, namespace=policy.name)
        key = item.key_for(str(client_id), str(int(_now() // policy.seconds)))
        try:
            if units:
                return await self._storage.incr(key, policy.seconds, units)
            return await self._storage.get(key)
        except StorageError as error:
            log.warning("quotas aren't counted: Redis can't be reached", exc_info=error)
            self._silent_until = time.monotonic() + _SILENT_SECONDS
            return None

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()


def _now() -> float:
    return time.time()


def _remaining(policy: Policy, used: int, *, exceeded: bool) -> Remaining:
    seconds_left = math.ceil(policy.seconds - _now() % policy.seconds)
    return Remaining(policy, max(0, policy.quota - used), seconds_left, exceeded)


def rate_limit_headers(remaining: Sequence[Remaining]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "RateLimit-Policy": ", ".join(each.policy.header for each in remaining),
        "RateLimit": ", ".join(each.header for each in remaining),
    }
