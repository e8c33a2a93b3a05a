"""Fair turns at work that takes processor time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

SMALL_BODY = 64 * 1024  # bytes
_SMALL_AT_ONCE = 2
_CREDIT = 20.0  # seconds


@dataclass(eq=False)
class Ticket:
    """A client's place: it waits until `granted` is set, then it holds a slot."""

    client_id: UUID
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = 0.0  # by the clock, once it is granted


class Slots:
    """So many slots for work, and who gets the next one. Round the clients, never by arrival alone.

    A free slot goes to the waiting client that holds the fewest, and among those to the one whose work has held slots
    for the shortest time. One client gets at most half of the slots. The last free one is kept for a client that holds
    none. Idling earns little: a client that comes anew starts at most _CREDIT before the one that has had the least.
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = at_once
        self._of_one = max(1, at_once // 2)
        self._clock = clock
        self._held: Counter[UUID] = Counter()
        self._waiting: list[Ticket] = []  # by arrival
        self._had: dict[UUID, float] = {}  # seconds for which a client has held slots

    @asynccontextmanager
    async def turn(self, client_id: UUID) -> AsyncIterator[None]:
        """Waits for the client's turn, and holds a slot within the context."""
        ticket = self.ask(client_id)
        try:
            await ticket.granted.wait()
            yield
        finally:
            self.leave(ticket)

    def ask(self, client_id: UUID) -> Ticket:
        """A new place for the client. It may be granted at once."""
        active = {*self._held, *(ticket.client_id for ticket in self._waiting)}
        if client_id not in active:
            least = min((self._had[other] for other in active), default=0.0)
            self._had[client_id] = max(self._had.get(client_id, 0.0), least - _CREDIT)
        ticket = Ticket(client_id)
        self._waiting.append(ticket)
        self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Ends a place, whether it was granted or not."""
        if not ticket.granted.is_set():
            self._waiting.remove(ticket)
            return
        self._free += 1
        self._had[ticket.client_id] += self._clock() - ticket.since
        self._held[ticket.client_id] -= 1
        self._held += Counter()  # drops those at zero
        if not self._held and not self._waiting:
            self._had.clear()
        self._grant()

    def _grant(self) -> None:
        while ready := [ticket for ticket in self._waiting if self._may_hold(ticket.client_id)]:
            ticket = min(ready, key=lambda each: (self._held[each.client_id], self._had[each.client_id]))
            self._waiting.remove(ticket)
            self._free -= 1
            self._held[ticket.client_id] += 1
            ticket.since = self._clock()
            ticket.granted.set()

    def _may_hold(self, client_id: UUID) -> bool:
        """Whether the client may have a free slot."""
        held = self._held[client_id]
        return self._free > 0 and held < self._of_one and (held == 0 or self._free > 1)


class CheckTurns:
    """Whose request is checked now. small: for bodies of up to SMALL_BODY bytes, beside the slots for all others."""

    def __init__(self, at_once: int) -> None:
        self.small = Slots(_SMALL_AT_ONCE)
        self.large = Slots(at_once)
