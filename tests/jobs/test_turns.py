"""The order of claims, against a model in Python, and with workers that claim at the same moment.

A model has a line: one job at a time trains on it. Jobs that need no line to themselves only measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from jobs import claims, endings, repository
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.database import SessionFactory
from jobs.queueing import turns
from jobs.states import Kind, State
from jobs.tables import Client
from tests.jobs.conftest import Ledger

EXAMPLES = examples(max_examples=60, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow])
HOUR = timedelta(hours=1)
SOON = 72 * HOUR
# Far from the limit on both sides, so that a test that takes long meets no other order.
LONG_AGO = -timedelta(days=365 * 24)  # before any job was made
DEADLINES = [None, None, LONG_AGO, -50 * HOUR, HOUR, HOUR, SOON - HOUR, SOON + HOUR, 1000 * HOUR]
BEGIN = datetime(2021, 1, 1, tzinfo=UTC)
JOB = st.fixed_dictionaries(
    {
        "client": st.integers(0, 2),
        "due_in": st.sampled_from(DEADLINES),
        "priority": st.sampled_from([0, 0, 0, -1, 10]),
        "minute": st.integers(0, 9),
        "model": st.sampled_from(["first", "second", "third"]),
        "kind": st.sampled_from([Kind.unlearn, Kind.unlearn, Kind.evaluate]),
        "first": st.sampled_from([False, False, False, True]),
    }
)


def claim_next(sessions: SessionFactory, worker: str = "worker") -> claims.Claim | None:
    with sessions.begin() as s:
        return claims.claim_next(s, worker, 30)


def client_with(ledger: Ledger, running_jobs: int = 2, urgent: int = 20) -> UUID:
    client_id = ledger.new_client()
    limits = ClientLimits(running_jobs=running_jobs, urgent_jobs_per_day=urgent)
    with ledger.sessions.begin() as s:
        s.get_one(Client, client_id).limits = limits.differing()
    return client_id


def claimed_id(ledger: Ledger) -> UUID:
    """The job that is claimed next. It ends at once."""
    claim = claim_next(ledger.sessions)
    assert claim is not None
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "diverged", "The loss grew.")
    return claim.job.id


@dataclass
class Waiting:
    """What the order goes by, of one queued job. `due` is None unless that is soon."""

    id: UUID
    client: UUID
    due: datetime | None
    priority: int
    created_at: datetime
    line: str | None  # the model that it trains on, None if it only measures
    first: bool  # before all others, until it was run


class Turns(RuleBasedStateMachine):
    """Three clients that submit and cancel, and workers that claim and end jobs. The model knows the whole state."""

    ledger: Ledger

    @initialize(
        limits=st.lists(st.sampled_from([3, 2, 1, 0]), min_size=3, max_size=3),
        urgent=st.lists(st.sampled_from([20, 20, 2, 1, 0]), min_size=3, max_size=3),
        jobs=st.lists(JOB, min_size=6, max_size=12),
    )
    def start(self, limits: list[int], urgent: list[int], jobs: list[dict[str, Any]]) -> None:
        with self.ledger.sessions.begin() as s:
            s.execute(text("TRUNCATE clients, jobs CASCADE"))
        both = zip(limits, urgent, strict=True)
        clients = {client_with(self.ledger, running, most): (running, most) for running, most in both}
        self.limits = {client: running for client, (running, _) in clients.items()}
        self.urgent_left = {client: most for client, (_, most) in clients.items()}
        self.waiting: list[Waiting] = []
        self.running: dict[UUID, tuple[Waiting, UUID]] = {}  # with its token
        self.turn_at: dict[UUID, float] = {}  # in seconds; by a clock that hardly moves, as that of a fast test
        self.clock = 0.0
        self.now, self.count = datetime.now(UTC), 0
        for job in jobs:
            self.add(**job)

    @rule(job=JOB)
    def submit(self, job: dict[str, Any]) -> None:
        self.add(**job)

    def add(
        self,
        client: int,
        due_in: timedelta | None,
        priority: int,
        minute: int,
        model: str,
        kind: Kind,
        first: bool,
    ) -> None:
        owner = list(self.limits)[client]
        open_jobs = [*self.waiting, *(job for job, _ in self.running.values())]
        first = first and not any(job.first for job in open_jobs if job.client == owner)
        due = None if due_in is None else self.now + due_in
        at = BEGIN + timedelta(minutes=minute)
        self.count += 1
        # Random ids would break ties otherwise each time, and hypothesis wants the same run for the same draws.
        made_up = UUID(int=self.count * 7919 % 10007)
        times = {"due_at": due, "created_at": at}
        chosen = {"priority": priority, "model": model, "kind": kind, "goes_first": first}
        job_id = self.ledger.submit(owner, id=made_up, **chosen, **times)
        soon = max(due, at) if due is not None and due < self.now + SOON else None
        line = model if kind is Kind.unlearn else None
        self.waiting.append(Waiting(job_id, owner, soon, priority, at, line, first))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.waiting))
        with self.ledger.sessions.begin() as s:
            kind = Kind.evaluate if job.line is None else Kind.unlearn
            assert repository.request_cancel(s, job.client, job.id, kind) is not None
        self.waiting.remove(job)

    @rule()
    def claim(self) -> None:
        expected = self.next()
        claim = claim_next(self.ledger.sessions)
        assert (claim and claim.job.id) == (expected and expected.id)
        if claim is not None and expected is not None:
            self.waiting.remove(expected)
            if expected.due is not None and not expected.first and self.may_be_urgent(expected.client):
                self.urgent_left[expected.client] -= 1
            self.running[expected.id] = expected, claim.token
            self.move_on(expected.client, 0)

    def move_on(self, client: UUID, seconds: int) -> None:
        """Moves the client's turn to the end of an attempt of that length, and as far beyond, as the service is to."""
        self.clock += 0.001
        before = self.turn_at.get(client, self.clock)
        added_up = min(max(before, self.clock) + seconds, self.clock + self.limits[client] * seconds)
        self.turn_at[client] = max(before, added_up)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), requeued=st.booleans(), seconds=st.sampled_from([0, 100, 880]))
    def end(self, data: st.DataObject, requeued: bool, seconds: int) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        ended, token = self.running.pop(job_id)
        took = text("UPDATE jobs SET leads_since = now() - make_interval(secs => :seconds) WHERE id = :id")
        with self.ledger.sessions.begin() as s:
            s.execute(took, {"seconds": seconds, "id": job_id})
        if seconds:  # an attempt that took no time is paid for by its start
            self.move_on(ended.client, seconds)
        with self.ledger.sessions.begin() as s:
            if not requeued:
                endings.fail(s, token, "diverged", "The loss grew.")
                return
            claims.release(s, token, max_attempts=99, refund=False, reason="crashed")
        self.waiting.append(replace(ended, first=False))

    @invariant()
    def limits_hold(self) -> None:
        with self.ledger.sessions.begin() as s:
            found = s.execute(text("SELECT client_id, count(*) FROM jobs WHERE state = 'running' GROUP BY client_id"))
            counts = {client: count for client, count in found}  # noqa: C416  (rows are no pairs to mypy)
        assert counts == Counter(job.client for job, _ in self.running.values())
        assert all(count <= self.limits[client] for client, count in counts.items())

    @invariant()
    def each_line_has_one_run_at_most(self) -> None:
        with self.ledger.sessions.begin() as s:
            training = "SELECT model FROM jobs WHERE state = 'running' AND kind = 'unlearn' ORDER BY model"
            assert list(s.scalars(text(training))) == sorted(self.busy_lines())

    def busy_lines(self) -> set[str]:
        return {job.line for job, _ in self.running.values() if job.line is not None}

    def next(self) -> Waiting | None:
        """A busy line holds up its own jobs alone: none of another model, and none that only measures."""
        running, busy = Counter(job.client for job, _ in self.running.values()), self.busy_lines()
        allowed = [
            job for job in self.waiting if running[job.client] < self.limits[job.client] and job.line not in busy
        ]
        return min(allowed, key=lambda job: self.rank(job, running), default=None)

    def may_be_urgent(self, client: UUID) -> bool:
        """Not while a long attempt has put the client's turn into the future."""
        return self.urgent_left[client] > 0 and self.turn_at.get(client, self.clock) <= self.clock

    def rank(self, job: Waiting, running: Counter[UUID]) -> tuple[Any, ...]:
        oldest = min(other.created_at for other in self.waiting if other.client == job.client)
        turn_at = self.turn_at.get(job.client)
        waits = (0, oldest) if turn_at is None else (1, turn_at)
        if job.first:
            return 0, waits, job.id
        never = datetime.max.replace(tzinfo=UTC)
        due = job.due if job.due is not None and self.may_be_urgent(job.client) else never
        return 1, due, -job.priority, running[job.client], waits, job.created_at, job.id


def test_every_claim_takes_the_job_whose_turn_it_is(ledger: Ledger) -> None:
    on_this_ledger = type("TurnsOnThisLedger", (Turns,), {"ledger": ledger})
    run_state_machine_as_test(on_this_ledger, settings=EXAMPLES)


def test_two_hundred_jobs_of_one_client_do_not_stand_before_anothers(ledger: Ledger) -> None:
    for _ in range(200):
        ledger.submit_apart()
    assert claim_next(ledger.sessions) is not None
    other = ledger.submit_apart(ledger.new_client())
    claim = claim_next(ledger.sessions)
    assert claim is not None
    assert claim.job.id == other


def test_overdue_jobs_of_one_client_do_not_all_stand_before_anothers(ledger: Ledger) -> None:
    hasty, overdue = client_with(ledger, urgent=2), datetime(2000, 1, 1, tzinfo=UTC)
    for _ in range(4):
        ledger.submit(hasty, due_at=overdue)
    other = ledger.submit(ledger.new_client())
    assert [claimed_id(ledger) == other for _ in range(3)] == [False, False, True]


def test_a_client_may_be_urgent_again_a_day_later(ledger: Ledger) -> None:
    hasty = client_with(ledger, urgent=1)
    for _ in range(2):
        ledger.submit(hasty, due_at=datetime.now(UTC))
    claimed_id(ledger)
    patient = ledger.new_client()
    first = ledger.submit(patient)
    assert claimed_id(ledger) == first
    ledger.submit(patient)
    with ledger.sessions.begin() as s:
        s.execute(
            text("UPDATE clients SET urgent_since = urgent_since - interval '1 day' WHERE id = :id"), {"id": hasty}
        )
    assert ledger.job(claimed_id(ledger)).client_id == hasty
    with ledger.sessions.begin() as s:
        client = s.get_one(Client, hasty)
        assert client.urgent_starts == 1
        assert client.urgent_since is not None
        assert client.urgent_since > datetime.now(UTC) - HOUR


def test_a_deadline_before_the_jobs_creation_counts_as_that(ledger: Ledger) -> None:
    overdue = ledger.submit(due_at=datetime.now(UTC) - HOUR, created_at=datetime.now(UTC) - 2 * HOUR)
    invented = ledger.submit(ledger.new_client(), due_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert [claimed_id(ledger), claimed_id(ledger)] == [overdue, invented]


def test_a_client_that_never_had_a_turn_does_not_wait_for_a_second_one_of_another(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.submit()
    claim = claim_next(ledger.sessions)
    assert claim is not None
    other = ledger.submit(ledger.new_client())
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "diverged", "The loss grew.")
    following = claim_next(ledger.sessions)
    assert following is not None
    assert following.job.id == other


def run_next(ledger: Ledger, seconds: dict[UUID, int]) -> UUID:
    """The client whose job is claimed next. Its attempt takes as many seconds as its client's do."""
    claim = claim_next(ledger.sessions)
    assert claim is not None
    client_id = claim.job.client_id
    time_passes(ledger, seconds[client_id])
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "diverged", "The loss grew.")
    return client_id


def time_passes(ledger: Ledger, seconds: int) -> None:
    """As if what runs had begun so long ago, and nothing else had happened since. The test itself takes no time."""
    past = text("UPDATE clients SET turn_at = turn_at - make_interval(secs => :seconds)")
    running = text(
        "UPDATE jobs SET leads_since = now() - make_interval(secs => :seconds) WHERE leads_since IS NOT NULL"
    )
    with ledger.sessions.begin() as s:
        for moments in (past, running):
            s.execute(moments, {"seconds": seconds})


def test_a_client_with_long_runs_waits_while_others_run_as_long(ledger: Ledger) -> None:
    seconds = {ledger.client_id: 880, ledger.new_client(): 100}
    for client_id in seconds:
        for _ in range(25):
            ledger.submit(client_id)
    ran = dict.fromkeys(seconds, 0)
    for _ in range(20):
        client_id = run_next(ledger, seconds)
        ran[client_id] += seconds[client_id]
        long, short = ran.values()
        assert long <= 880 + 1.2 * short  # by starts, it would soon be 880 / 100
        assert short <= long


def test_deadlines_lend_no_turns_to_a_client_with_long_runs(ledger: Ledger) -> None:
    """Else a client with overdue jobs would have the worker as long as it has such jobs a day."""
    seconds = {ledger.client_id: 880, ledger.new_client(): 100}
    for client_id, due_at in zip(seconds, (datetime(2020, 1, 1, tzinfo=UTC), None), strict=True):
        for _ in range(12):
            ledger.submit(client_id, due_at=due_at)
    long, short = seconds
    assert [run_next(ledger, seconds) for _ in range(10)] == [long, *[short] * 8, long]


def seconds_ahead(ledger: Ledger) -> int:
    """How far in the future the client's turn is."""
    with ledger.sessions.begin() as s:
        ahead = s.scalar(
            text("SELECT extract(epoch FROM turn_at - now()) FROM clients WHERE id = :id"), {"id": ledger.client_id}
        )
    assert ahead is not None
    return round(ahead)


def test_jobs_that_run_at_a_time_each_add_their_length_and_idle_workers_cost_nothing_later(ledger: Ledger) -> None:
    for _ in range(3):
        for _ in range(2):
            ledger.submit_apart()
        both = [claim_next(ledger.sessions) for _ in range(2)]
        time_passes(ledger, 100)
        for claim, ahead in zip(both, (100, 200), strict=True):
            assert claim is not None
            with ledger.sessions.begin() as s:
                claims.release(s, claim.token, max_attempts=1, refund=False, reason="crashed")
            assert ahead <= seconds_ahead(ledger) <= 200


def test_a_turn_never_moves_back(ledger: Ledger) -> None:
    seconds = {ledger.client_id: 880}
    for _ in range(2):
        ledger.submit()
    run_next(ledger, seconds)
    run_next(ledger, {ledger.client_id: 0})
    assert seconds_ahead(ledger) == 880


def test_a_client_that_comes_back_has_saved_nothing_up(ledger: Ledger) -> None:
    seconds = {ledger.client_id: 100, ledger.new_client(): 100}
    back, other = seconds
    ledger.submit(back)
    run_next(ledger, seconds)
    time_passes(ledger, 10 * 86_400)
    ledger.submit(other)
    run_next(ledger, seconds)
    for client_id in seconds:
        for _ in range(3):
            ledger.submit(client_id)
    assert [run_next(ledger, seconds) for _ in range(4)] == [back, other] * 2


def test_a_worker_that_freezes_as_it_chooses_does_not_hold_up_the_others_for_long(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert claim_next(ledger.sessions) is None  # a process's first choice takes longer than that: it builds the query
    job_id = ledger.submit()
    frozen = ledger.sessions()
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_LOCK_MILLISECONDS", 500)
        assert claims.claim_next(frozen, "frozen", 30) is not None
    claim = claim_next(ledger.sessions)
    assert claim is not None
    assert claim.job.id == job_id
    with pytest.raises(DBAPIError):
        frozen.commit()
    frozen.close()


@pytest.fixture
def at_once() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_workers_that_claim_at_once_keep_the_order_and_the_limits(ledger: Ledger, at_once: ThreadPoolExecutor) -> None:
    two, three = client_with(ledger, 2), client_with(ledger, 3)
    jobs = {client: [ledger.submit_apart(client) for _ in range(6)] for client in (two, three)}

    taken = eight_claims(ledger, at_once)

    assert sorted(taken) == sorted(jobs[two][:2] + jobs[three][:3])


def eight_claims(ledger: Ledger, at_once: ThreadPoolExecutor) -> list[UUID]:
    """The jobs that eight workers get that claim at the same moment."""
    start = Barrier(8)

    def claim(number: int) -> UUID | None:
        start.wait()
        claimed = claim_next(ledger.sessions, f"worker-{number}")
        return None if claimed is None else claimed.job.id

    return [job_id for job_id in at_once.map(claim, range(8)) if job_id is not None]


def test_workers_that_claim_at_once_start_one_job_of_a_line(ledger: Ledger, at_once: ThreadPoolExecutor) -> None:
    first, second, *_ = [ledger.submit(client_with(ledger, 8)) for _ in range(8)]
    assert eight_claims(ledger, at_once) == [first]
    assert ledger.job(first).state is State.running
    start = text(
        "UPDATE jobs SET state = 'running', attempt_token = gen_random_uuid(), lease_expires_at = now(), "
        "leads_since = now() WHERE id = :id"
    )
    with pytest.raises(IntegrityError, match="uq_jobs_line"), ledger.sessions.begin() as s:
        s.execute(start, {"id": second})
    with ledger.sessions.begin() as s:
        s.execute(start, {"id": ledger.submit_apart()})  # nothing else is wrong with it


def test_a_job_that_is_being_cancelled_is_passed_over(ledger: Ledger) -> None:
    cancelled, following = ledger.submit_apart(), ledger.submit_apart()
    with ledger.sessions.begin() as cancelling:
        repository.request_cancel(cancelling, ledger.client_id, cancelled)
        claim = claim_next(ledger.sessions)
        assert claim is not None
        assert claim.job.id == following
        assert claim_next(ledger.sessions) is None
    assert ledger.job(cancelled).state is State.cancelled


def test_a_new_limit_holds_from_the_next_claim_on(ledger: Ledger) -> None:
    for _ in range(4):
        ledger.submit_apart()
    assert [claim_next(ledger.sessions) is not None for _ in range(3)] == [True, True, False]
    with ledger.sessions.begin() as s:
        access.set_limits(s, s.get_one(Client, ledger.client_id), ClientLimits(running_jobs=3))
    assert [claim_next(ledger.sessions) is not None for _ in range(2)] == [True, False]
