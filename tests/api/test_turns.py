"""Who gets the next slot for a check: any clients that ask, hold and leave, in any order."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.limits.turns import Slots, Ticket

CLIENTS = [UUID(int=number) for number in range(5)]


class Asking(RuleBasedStateMachine):
    """Clients ask for slots, hold them for a while, and go, also without having got one."""

    @initialize(at_once=st.integers(1, 6))
    def begin(self, at_once: int) -> None:
        self.now = 0.0
        self.at_once = at_once
        self.slots = Slots(at_once, clock=lambda: self.now)
        self.tickets: list[Ticket] = []

    @property
    def held(self) -> Counter[UUID]:
        return Counter(ticket.client_id for ticket in self.tickets if ticket.granted.is_set())

    def waiting(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if not ticket.granted.is_set()]

    @rule(client=st.sampled_from(CLIENTS))
    def ask(self, client: UUID) -> None:
        self.tickets.append(self.slots.ask(client))

    @precondition(lambda self: self.tickets)
    @rule(which=st.integers(0, 1000), seconds=st.floats(0, 20))
    def leave(self, which: int, seconds: float) -> None:
        self.now += seconds
        ticket = self.tickets.pop(which % len(self.tickets))
        waiting, held = self.waiting(), self.held
        self.slots.leave(ticket)
        granted = [each for each in waiting if each.granted.is_set()]
        if granted and any(held[each.client_id] == 0 for each in waiting):
            assert any(held[each.client_id] == 0 for each in granted), "one that held none was passed over"

    @invariant()
    def nobody_has_more_than_its_share(self) -> None:
        assert self.held.total() <= self.at_once
        assert all(held <= max(1, self.at_once // 2) for held in self.held.values())

    @invariant()
    def the_last_free_slot_is_for_a_client_without_one(self) -> None:
        if self.held.total() == self.at_once:
            # Whoever came last to a full house held none: so at least one client holds exactly one.
            assert 1 in self.held.values()

    @invariant()
    def no_slot_is_idle_that_somebody_may_have(self) -> None:
        free = self.at_once - self.held.total()
        for ticket in self.waiting():
            held = self.held[ticket.client_id]
            assert free == 0 or held >= max(1, self.at_once // 2) or (held > 0 and free == 1)


TestAsking = Asking.TestCase
TestAsking.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_client_that_asks_little_waits_for_one_check_of_others_at_most(at_once: int) -> None:
    """Two clients fill everything, and ask again as soon as they get a turn. Their checks take twenty seconds."""
    now = 0.0
    slots = Slots(at_once, clock=lambda: now)
    greedy, modest = CLIENTS[:2], CLIENTS[2]
    tickets = [slots.ask(client) for _ in range(20) for client in greedy]
    for already in range(10):
        asked = slots.ask(modest)
        waits = 0
        while not asked.granted.is_set():
            waits += 1
            now += 20
            done = next(ticket for ticket in tickets if ticket.granted.is_set())
            tickets.remove(done)
            slots.leave(done)
            tickets.append(slots.ask(done.client_id))
        assert waits <= (1 if already else 2)  # at first all are equal
        now += 0.1
        slots.leave(asked)


def test_turns_go_by_what_clients_have_had_not_by_what_they_ask() -> None:
    now = 0.0
    slots = Slots(1, clock=lambda: now)
    dear, cheap = CLIENTS[:2]
    tickets = [slots.ask(client) for client in [dear] * 3 + [cheap] * 30]
    order = []
    while tickets:
        (running,) = (ticket for ticket in tickets if ticket.granted.is_set())
        order.append(running.client_id)
        now += 10 if running.client_id == dear else 1
        tickets.remove(running)
        slots.leave(running)
    assert order.index(cheap) == 1
    assert order[1:11] == [cheap] * 10
    assert dear in order[11:13]


def test_idling_earns_a_few_turns_at_most() -> None:
    now = 0.0
    slots = Slots(1, clock=lambda: now)
    steady, idler = CLIENTS[:2]
    waiting = [slots.ask(steady) for _ in range(12)]
    for _ in range(5):  # the steady one alone, for a long time
        now += 10
        slots.leave(waiting.pop(0))
    late = [slots.ask(idler) for _ in range(12)]
    order = []
    for _ in range(8):
        queue = next(each for each in (waiting, late) if each and each[0].granted.is_set())
        order.append(queue is late)
        now += 10
        slots.leave(queue.pop(0))
    assert sum(order) == 5  # two before, then in turns
