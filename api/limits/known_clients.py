"""Whose key a request carries, remembered for half a minute. What is remembered decides about quotas alone, never
about access."""

from __future__ import annotations

import hashlib
import math
import time
from typing import NamedTuple
from uuid import UUID

from jobs.clients.access import holder_with_limits
from jobs.clients.limits import ClientLimits
from jobs.database import SessionFactory
from jobs.tables import Right

_SECONDS = 30.0
_MOST = 10_000  # keys


class KnownClient(NamedTuple):
    """A client, what it may use, and what its key may do beyond its own jobs."""

    id: UUID
    limits: ClientLimits
    rights: frozenset[Right]


class KnownClients:
    """Reads each key's client once in a while. A key's hash is kept, not the key."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        self._found: dict[bytes, tuple[float, KnownClient]] = {}

    def remembered(self, secret: str) -> KnownClient | None:
        """The key's client, if it was read lately. Asks nobody."""
        read_at, client = self._found.get(_hash(secret), (-math.inf, None))
        return client if time.monotonic() - read_at < _SECONDS else None

    def read(self, secret: str) -> KnownClient | None:
        """The key's client by the ledger; None for a key that isn't valid."""
        with self._sessions() as s:
            found = holder_with_limits(s, secret)
        client = None if found is None else KnownClient(found[0].client_id, found[1], found[0].rights)
        if len(self._found) >= _MOST:
            self._found.clear()
        if client is not None:
            self._found[_hash(secret)] = time.monotonic(), client
        return client


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
