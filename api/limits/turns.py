"""Fair turns at work that takes processor time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

import anyio


class CheckTurns:
    """Who may check a request now: so many at once, of which one client gets at most half."""

    def __init__(self, at_once: int) -> None:
        self._all = anyio.CapacityLimiter(at_once)
        self._of_one = max(1, at_once // 2)
        self._clients: WeakValueDictionary[UUID, anyio.CapacityLimiter] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, client_id: UUID) -> AsyncIterator[None]:
        """Waits for the client's turn, and holds it within the context."""
        own = self._clients.get(client_id)
        if own is None:
            own = self._clients[client_id] = anyio.CapacityLimiter(self._of_one)
        async with own, self._all:
            yield
