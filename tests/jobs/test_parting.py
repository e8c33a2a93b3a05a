"""A faulty request holds up nobody else: who shares a run, who is set apart, who goes first, and whose turn is used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from jobs import claims, endings, repository
from jobs.claims import Claim
from jobs.clients.limits import ClientLimits
from jobs.parting import Refusal
from jobs.states import Kind, Phase, State
from jobs.tables import Client
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.jobs.test_life import MAX_ATTEMPTS
from tests.jobs.test_together import claim_next, finish, held_by, run_of
from vgid_core.progress import Progress

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
    return client(ledger, client_id).last_started_at


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
