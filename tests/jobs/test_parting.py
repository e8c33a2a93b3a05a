"""A faulty request holds up nobody else: who shares a run, who is set apart, who goes first, and whose turn is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from jobs import claims, endings, parting, repository, transitions
from jobs.claims import Claim
from jobs.clients.limits import ClientLimits
from jobs.parting import Refusal
from jobs.queueing import together
from jobs.states import Kind, Phase, State
from jobs.tables import Client, Job
from tests.evidence import DROPPED, FALLEN_ELSEWHERE, FORGOTTEN, MISSED, MISSED_AND_DROPPED
from tests.jobs.conftest import Ledger
from tests.jobs.test_life import MAX_ATTEMPTS
from tests.jobs.test_together import claim_next, finish, held_by, run_of
from vgid_core.evaluation.verdict import RULES
from vgid_core.progress import Progress

# What can't be judged is as good as missed.
LACKING = {
    **DROPPED,
    "verdict": {**DROPPED["verdict"], "lacking": ["generated.rouge_l: nothing was asked of the forgotten"]},
}
UNKNOWN = Refusal("nothing-to-forget", "The model doesn't know these answers.")


@pytest.fixture
def junk(ledger: Ledger) -> UUID:
    """Another client."""
    return ledger.new_client()


def claimed(ledger: Ledger) -> Claim:
    claim = claim_next(ledger)
    assert claim is not None
    return claim


def refuse(ledger: Ledger, claim: Claim, *jobs: UUID) -> list[UUID] | None:
    with ledger.sessions.begin() as s:
        return endings.refuse(s, claim.token, dict.fromkeys(jobs, UNKNOWN))


def train(ledger: Ledger, claim: Claim) -> None:
    with ledger.sessions.begin() as s:
        assert claims.report(s, claim.token, Progress(Phase.distilling))


def parted(ledger: Ledger, claim: Claim, *missed: UUID) -> None:
    """The run has trained, and these jobs of it have missed their targets."""
    train(ledger, claim)
    found = {job_id: MISSED if job_id in missed else FORGOTTEN for job_id in held_by(ledger, claim.token)}
    assert finish(ledger, claim, found) is State.queued


def turn_of(ledger: Ledger, client_id: UUID) -> datetime | None:
    return client(ledger, client_id).turn_at


def client(ledger: Ledger, client_id: UUID) -> Client:
    with ledger.sessions.begin() as s:
        return s.get_one(Client, client_id)


def test_a_client_has_one_unproven_job_in_a_run_with_others(ledger: Ledger, junk: UUID) -> None:
    spam = [ledger.submit(junk) for _ in range(4)]
    honest = ledger.submit()
    claim = claimed(ledger)
    assert run_of(ledger, claim) == [spam[0], honest]


def test_an_office_with_nobody_beside_it_is_one_run(ledger: Ledger, junk: UUID) -> None:
    own = [ledger.submit() for _ in range(3)]
    ledger.submit(junk, model="another")
    assert run_of(ledger, claimed(ledger)) == own


def test_proven_jobs_are_held_back_by_nothing(ledger: Ledger, junk: UUID) -> None:
    proven = [ledger.submit(junk, proven=True) for _ in range(2)]
    unproven, honest = [ledger.submit(junk) for _ in range(2)], ledger.submit()
    assert run_of(ledger, claimed(ledger)) == [*proven, unproven[0], honest]


def test_what_is_trained_on_is_proven(ledger: Ledger, junk: UUID) -> None:
    jobs = [ledger.submit(), ledger.submit(junk)]
    claim = claimed(ledger)
    for phase, proven in ((Phase.baseline, False), (Phase.distilling, True), (Phase.evaluating, True)):
        with ledger.sessions.begin() as s:
            claims.report(s, claim.token, Progress(phase))
        assert [ledger.job(job_id).proven for job_id in jobs] == [proven] * 2


def test_all_that_can_not_be_run_end_at_once_and_the_others_go_on(ledger: Ledger, junk: UUID) -> None:
    jobs = [ledger.submit(client_id) for client_id in (junk, *(ledger.new_client() for _ in range(3)))]
    claim = claimed(ledger)
    assert refuse(ledger, claim, jobs[0], jobs[2]) == [jobs[1], jobs[3]]
    for job_id in (jobs[0], jobs[2]):
        job = ledger.job(job_id)
        assert (job.state, job.error_type, job.outcome) == (State.failed, "nothing-to-forget", "nothing-to-forget")
        assert job.wrapped_data_key is None
    assert [ledger.job(job_id).run_of for job_id in (jobs[1], jobs[3])] == [None, jobs[1]]
    with ledger.sessions.begin() as s:  # the claimed job has ended, and the run goes on
        assert claims.heartbeat(s, claim.token, 30).held
        assert claims.report(s, claim.token, Progress(Phase.distilling, 1, 2, 0.5))
    made = dict.fromkeys((jobs[1], jobs[3]), FORGOTTEN)
    assert finish(ledger, claim, made) is State.succeeded
    assert ledger.job(jobs[3]).state is State.succeeded


def test_a_run_of_which_nobody_is_left_is_over(ledger: Ledger, junk: UUID) -> None:
    first, second = ledger.submit(), ledger.submit(junk)
    claim = claimed(ledger)
    assert refuse(ledger, claim, first, second) == []
    assert refuse(ledger, claim, first) is None
    with ledger.sessions.begin() as s:
        assert not claims.heartbeat(s, claim.token, 30).held


def test_who_is_refused_has_used_its_clients_turn_and_its_right_to_be_urgent(ledger: Ledger, junk: UUID) -> None:
    ledger.submit(due_at=datetime.now(UTC))
    spam = ledger.submit(junk, due_at=datetime.now(UTC) + timedelta(hours=1))
    claim = claimed(ledger)
    own_turn = turn_of(ledger, ledger.client_id)
    assert turn_of(ledger, junk) is None
    refuse(ledger, claim, spam)
    assert turn_of(ledger, junk) is not None
    assert client(ledger, junk).urgent_starts == 1
    assert turn_of(ledger, ledger.client_id) == own_turn


def test_whose_run_another_client_broke_goes_alone_and_next(ledger: Ledger, junk: UUID) -> None:
    honest = ledger.submit()
    bad, *more = [ledger.submit(junk) for _ in range(3)]
    urgent = ledger.submit(ledger.new_client(), model="another", due_at=datetime.now(UTC), priority=9)
    claim = claimed(ledger)
    assert claim.job.id == urgent
    claim = claimed(ledger)
    assert sorted(run_of(ledger, claim)) == sorted([honest, bad])
    parted(ledger, claim, bad)
    ledger.submit(junk, due_at=datetime.now(UTC), priority=10)
    again = claimed(ledger)
    assert run_of(ledger, again) == [honest]
    assert ledger.job(honest).attempt == 1  # the run that came apart doesn't count
    assert ledger.job(bad).runs_alone
    assert not any(ledger.job(job_id).runs_alone for job_id in more)


def test_a_job_that_goes_first_uses_no_second_urgent_start(ledger: Ledger, junk: UUID) -> None:
    honest, bad = ledger.submit(due_at=datetime.now(UTC)), ledger.submit(junk)
    parted(ledger, claimed(ledger), bad)
    assert run_of(ledger, claimed(ledger)) == [honest]
    assert client(ledger, ledger.client_id).urgent_starts == 1


def test_own_jobs_faults_give_no_precedence(ledger: Ledger, junk: UUID) -> None:
    honest = ledger.submit()
    bad, other = ledger.submit(junk), ledger.submit(junk, proven=True)
    claim = claimed(ledger)
    assert len(run_of(ledger, claim)) == 3
    parted(ledger, claim, bad)
    found = {job_id: (ledger.job(job_id).runs_alone, ledger.job(job_id).goes_first) for job_id in (honest, bad, other)}
    assert found == {honest: (True, True), bad: (True, False), other: (False, False)}


def test_two_clients_that_break_one_run_both_go_back_in_line(ledger: Ledger, junk: UUID) -> None:
    first, second, third = ledger.submit(), ledger.submit(junk), ledger.submit(ledger.new_client())
    parted(ledger, claimed(ledger), first, second)
    assert [ledger.job(job_id).goes_first for job_id in (first, second, third)] == [False, False, True]


def test_a_cancellation_by_another_client_puts_the_others_first(ledger: Ledger, junk: UUID) -> None:
    bait, honest = ledger.submit(junk), ledger.submit()
    claim = claimed(ledger)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, junk, bait)
        claims.cancelled(s, claim.token)
    for _ in range(3):
        ledger.submit(ledger.new_client(), priority=10)
    assert run_of(ledger, claimed(ledger)) == [honest]


def test_a_crash_puts_nobody_first(ledger: Ledger, junk: UUID) -> None:
    jobs = [ledger.submit(), ledger.submit(junk)]
    claim = claimed(ledger)
    with ledger.sessions.begin() as s:
        claims.release(s, claim.token, max_attempts=MAX_ATTEMPTS, refund=False, reason="crashed")
    assert [(ledger.job(each).runs_alone, ledger.job(each).goes_first) for each in jobs] == [(True, False)] * 2


def test_of_a_client_one_job_goes_first_by_its_usual_order_and_the_others_run_alone(ledger: Ledger, junk: UUID) -> None:
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    own = [ledger.submit(proven=True, **fields) for fields in ({}, {"priority": 1}, {"due_at": in_an_hour})]
    bad = ledger.submit(junk)
    claim = claimed(ledger)
    assert len(run_of(ledger, claim)) == 4
    parted(ledger, claim, bad)
    assert [ledger.job(job_id).goes_first for job_id in own] == [False, False, True]
    assert all(ledger.job(job_id).runs_alone for job_id in own)


@pytest.mark.parametrize("other", ["waits", "runs"])
def test_a_client_with_a_job_that_goes_first_gets_no_second_one(ledger: Ledger, junk: UUID, other: str) -> None:
    first = ledger.submit(model="another", goes_first=True, runs_alone=True)
    if other == "runs":
        with ledger.sessions.begin() as s:
            assert claims.claim(s, first, "worker", 30) is not None
    own, bad, third = ledger.submit(), ledger.submit(junk), ledger.submit(ledger.new_client())
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, own, "worker", 30)
        assert claim is not None
        for job in together.companions(s, claim.job, 4):
            transitions.join(s, job, claim.job, transitions.database_now(s), 30)
    parted(ledger, claim, bad)
    found = [(ledger.job(job_id).runs_alone, ledger.job(job_id).goes_first) for job_id in (own, third)]
    assert found == [(True, False), (True, True)]


def test_who_goes_first_is_passed_by_a_client_once_however_old_its_jobs_are(ledger: Ledger, junk: UUID) -> None:
    """A client that has put many old jobs of its own first by an accomplice."""
    accomplice, hour = ledger.new_client(), timedelta(hours=1)
    ledger.submit()
    for number in range(3):
        ledger.submit(junk, proven=True, created_at=datetime.now(UTC) - hour * (3 - number))
    bad = ledger.submit(accomplice)
    claim = claimed(ledger)
    assert len(run_of(ledger, claim)) == 5
    parted(ledger, claim, bad)
    order = []
    for _ in range(2):
        again = claimed(ledger)
        order.append(again.job.client_id)
        parted_alone(ledger, again)
    assert order == [ledger.client_id, junk]  # the junk client has led the run that broke


def parted_alone(ledger: Ledger, claim: Claim) -> None:
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "training-diverged", "The loss isn't finite.")


def seconds_ahead(ledger: Ledger, client_id: UUID) -> int:
    """How far in the future the client's turn is. 0 if it has used none."""
    with ledger.sessions.begin() as s:
        now = transitions.database_now(s)
    turn = turn_of(ledger, client_id)
    return 0 if turn is None else round((turn - now).total_seconds())


def test_who_breaks_a_run_pays_for_it_and_nobody_else(ledger: Ledger, junk: UUID) -> None:
    ledger.submit()
    bad, third = ledger.submit(junk), ledger.new_client()
    ledger.submit(third)
    claim = claimed(ledger)
    ledger.turn_back(claim.job.id, "leads_since", 880)
    parted(ledger, claim, bad)
    assert [seconds_ahead(ledger, client_id) for client_id in (ledger.client_id, junk, third)] == [0, 880, 0]


def test_a_run_is_a_turn_of_each_client_by_its_share(ledger: Ledger, junk: UUID) -> None:
    """Whoever rides along in another one's run has had its time, and only its own."""
    jobs = [ledger.submit(forget_pairs=90), ledger.submit(junk, forget_pairs=10)]
    claim = claimed(ledger)
    ledger.turn_back(claim.job.id, "leads_since", 1000)
    assert finish(ledger, claim, dict.fromkeys(jobs, FORGOTTEN)) is State.succeeded
    assert [seconds_ahead(ledger, client_id) for client_id in (ledger.client_id, junk)] == [900, 100]


def test_nobody_of_another_client_makes_a_run_much_longer(ledger: Ledger, junk: UUID) -> None:
    first = ledger.submit(forget_pairs=30)
    ledger.submit(junk, forget_pairs=31)
    own, small = ledger.submit(forget_pairs=500, proven=True), ledger.submit(ledger.new_client(), forget_pairs=30)
    assert set(run_of(ledger, claimed(ledger))) == {first, own, small}


@pytest.mark.parametrize("stop", [claims.cancelled, endings.end_too_long])
def test_who_is_left_when_the_others_were_refused_is_not_ended_for_them(
    ledger: Ledger, junk: UUID, stop: Callable[[Session, UUID], State | None]
) -> None:
    """A worker stops a run for one of its jobs, and that one is refused before the process has ended."""
    bad, honest = ledger.submit(junk), ledger.submit()
    claim = claimed(ledger)
    assert run_of(ledger, claim) == [bad, honest]
    refuse(ledger, claim, bad)
    with ledger.sessions.begin() as s:
        assert stop(s, claim.token) is State.queued
    assert (ledger.job(honest).state, ledger.job(honest).attempt) == (State.queued, 0)


def test_who_is_refused_pays_for_the_check_and_the_next_leads_from_then_on(ledger: Ledger, junk: UUID) -> None:
    bad, honest = ledger.submit(junk), ledger.submit()
    claim = claimed(ledger)
    ledger.turn_back(bad, "leads_since", 100)
    refuse(ledger, claim, bad)
    assert seconds_ahead(ledger, junk) == 100
    ledger.turn_back(honest, "leads_since", 30)
    assert finish(ledger, claim, {honest: FORGOTTEN}) is State.succeeded
    assert seconds_ahead(ledger, ledger.client_id) == 30


def broken(ledger: Ledger, junk: UUID, own: dict[str, Any], of_junk: dict[str, Any]) -> list[tuple[bool, bool]]:
    """Whether each of two clients' jobs runs alone and goes first, after a run that found this."""
    jobs = [ledger.submit(), ledger.submit(junk)]
    claim = claimed(ledger)
    train(ledger, claim)
    ledger.turn_back(jobs[0], "leads_since", 900)
    assert finish(ledger, claim, dict(zip(jobs, (own, of_junk), strict=True))) is State.queued
    return [(ledger.job(job_id).runs_alone, ledger.job(job_id).goes_first) for job_id in jobs]


@pytest.mark.parametrize(("own", "of_junk"), [(DROPPED, DROPPED), (FALLEN_ELSEWHERE, DROPPED)])
def test_what_all_share_and_all_miss_is_nobodys_known_fault(
    ledger: Ledger, junk: UUID, own: dict[str, Any], of_junk: dict[str, Any]
) -> None:
    assert broken(ledger, junk, own, of_junk) == [(True, False)] * 2
    assert seconds_ahead(ledger, junk) == 450


@pytest.mark.parametrize("of_junk", [MISSED, MISSED_AND_DROPPED, LACKING])
def test_who_misses_a_target_of_its_own_is_to_blame_for_what_all_share(
    ledger: Ledger, junk: UUID, of_junk: dict[str, Any]
) -> None:
    assert broken(ledger, junk, DROPPED, of_junk) == [(True, True), (True, False)]
    assert seconds_ahead(ledger, junk) == 900


def test_who_alone_misses_what_all_share_is_to_blame(ledger: Ledger, junk: UUID) -> None:
    assert broken(ledger, junk, FORGOTTEN, DROPPED) == [(True, True), (True, False)]


def test_the_shared_targets_are_those_about_others() -> None:
    assert {rule.target for rule in RULES if rule.figures == "everyone_else.drop"} == endings.SHARED_TARGETS


def test_runs_that_break_at_once_wait_for_no_circle(ledger: Ledger, junk: UUID) -> None:
    """Each run is led by the client that breaks the other, so both write both clients' rows."""
    claims_of = []
    for model, clients in (("a", (ledger.client_id, junk)), ("b", (junk, ledger.client_id))):
        led, bad = (ledger.submit(client, model=model) for client in clients)
        with ledger.sessions.begin() as s:
            claim = claims.claim(s, led, "worker", 30)
            assert claim is not None
            transitions.join(s, s.get_one(Job, bad), claim.job, transitions.database_now(s), 30)
        claims_of.append((claim.token, bad))
    start = Barrier(2)

    def take_apart(token: UUID, bad: UUID) -> None:
        with ledger.sessions.begin() as s:
            jobs = claims.lock_run(s, token)
            start.wait()
            parting.take_apart(s, jobs, {bad})

    with ThreadPoolExecutor(2) as at_once:
        list(at_once.map(lambda each: take_apart(*each), claims_of))
    assert all(ledger.job(bad).runs_alone for _, bad in claims_of)


@pytest.mark.parametrize(("refund", "first"), [(True, True), (False, False)])
def test_who_goes_first_does_so_until_it_was_run(ledger: Ledger, junk: UUID, refund: bool, first: bool) -> None:
    honest, bad = ledger.submit(), ledger.submit(junk)
    parted(ledger, claimed(ledger), bad)
    again = claimed(ledger)
    with ledger.sessions.begin() as s:
        claims.release(s, again.token, max_attempts=MAX_ATTEMPTS, refund=refund, reason="worker_stopping")
    assert ledger.job(honest).goes_first is first


@pytest.mark.parametrize("held_up_by", ["its line", "its client's limit"])
def test_who_goes_first_still_waits_for_its_line_and_its_clients_limit(
    ledger: Ledger, junk: UUID, held_up_by: str
) -> None:
    with ledger.sessions.begin() as s:
        s.get_one(Client, ledger.client_id).limits = ClientLimits(running_jobs=1).model_dump()
    honest = ledger.submit(goes_first=True, runs_alone=True)
    running = ledger.submit(junk) if held_up_by == "its line" else ledger.submit(kind=Kind.evaluate)
    with ledger.sessions.begin() as s:
        assert claims.claim(s, running, "worker", 30) is not None
    other = ledger.submit(junk, model="third")
    assert run_of(ledger, claimed(ledger)) == [other]
    assert ledger.job(honest).state is State.queued
