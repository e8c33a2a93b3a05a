"""Runs of several requests: who takes part, and how a run comes apart so that one's trouble is nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from jobs import claims, endings, repository
from jobs.claims import Claim
from jobs.clients.limits import ClientLimits
from jobs.lines import releases
from jobs.lines.releases import NewReplaySet
from jobs.queueing.queue import JobQueue
from jobs.reaping import reap
from jobs.settings import Settings
from jobs.states import Kind, Phase, State
from jobs.storage.blobs import FileBlobStore
from jobs.storage.input_cleanup import delete_inputs
from jobs.tables import Artifact, Client, Job, Mark, ReplaySet
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.jobs.test_life import MAX_ATTEMPTS
from tests.lines import new_artifact
from vgid_core.progress import Progress


def claim_next(ledger: Ledger, most: int = 5, gather: float = 0) -> Claim | None:
    return ledger.claim_next(most, gather)


def run_of(ledger: Ledger, claim: Claim | None) -> list[UUID]:
    """The jobs of a claimed run, the claimed one first."""
    assert claim is not None
    return held_by(ledger, claim.token)


def held_by(ledger: Ledger, token: UUID) -> list[UUID]:
    """The jobs that the token holds, the run's first one first."""
    with ledger.sessions.begin() as s:
        return [job.id for job in claims.jobs_of_run(s, token)]


def finish(ledger: Ledger, claim: Claim, evidence: dict[UUID, dict[str, Any]], **release: Any) -> State | None:
    first = held_by(ledger, claim.token)[0]
    with ledger.sessions.begin() as s:
        made = {job_id: new_artifact(s, job_id, found, **release) for job_id, found in evidence.items()}
        own = made.pop(first)
        return endings.finish(s, first, claim.token, own, made)


def test_waiting_requests_of_a_model_are_run_as_one_by_due_date(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    none, second, fourth, third = (ledger.new_client() for _ in range(4))
    none = ledger.submit(none)
    first = ledger.submit(second, due_at=now + timedelta(hours=1))
    late, soon = ledger.submit(fourth, due_at=now + timedelta(days=9)), ledger.submit(due_at=now)
    other_client = ledger.submit(third, due_at=now + timedelta(days=5))
    claim = claim_next(ledger, most=4)
    assert run_of(ledger, claim) == [soon, first, late, other_client]  # as they were asked for, behind the claimed one
    assert ledger.job(none).state is State.queued
    assert {ledger.job(job_id).run_of for job_id in (first, late, other_client)} == {soon}
    assert (claim_next(ledger), ledger.job(soon).run_of) == (None, None)


def test_only_what_one_training_can_serve_takes_part(ledger: Ledger) -> None:
    first = ledger.submit(priority=1)
    for different in (
        {"config": {"seed": 1}},
        {"retain_set": "another"},
        {"retain_pairs": 3},
        {"kind": Kind.evaluate},
        {"runs_alone": True},
        {"model": "another"},
    ):
        ledger.submit(**different)
    stopped = ledger.new_client()
    with ledger.sessions.begin() as s:
        s.get_one(Client, stopped).limits = ClientLimits(running_jobs=0).model_dump()
    ledger.submit(stopped)
    same = ledger.submit()
    assert run_of(ledger, claim_next(ledger, most=99)) == [first, same]


@pytest.mark.parametrize("alone", [{"retain_pairs": 3}, {"runs_alone": True}, {"kind": Kind.evaluate}])
def test_a_job_that_is_run_alone_takes_nobody_along(ledger: Ledger, alone: dict[str, Any]) -> None:
    first = ledger.submit(priority=1, **alone)
    ledger.submit()
    assert run_of(ledger, claim_next(ledger)) == [first]


def test_who_takes_part_occupies_no_worker_of_its_client(ledger: Ledger) -> None:
    with ledger.sessions.begin() as s:
        s.get_one(Client, ledger.client_id).limits = ClientLimits(running_jobs=2).model_dump()
    for _ in range(3):
        ledger.submit()
    assert len(run_of(ledger, claim_next(ledger))) == 3
    elsewhere = ledger.submit(model="another")
    assert run_of(ledger, claim_next(ledger)) == [elsewhere]


def test_a_request_waits_for_others_unless_it_is_due(ledger: Ledger) -> None:
    patient = ledger.submit()
    assert claim_next(ledger, gather=600) is None
    ledger.turn_back(patient, "created_at", 601)
    later = ledger.submit()
    assert run_of(ledger, claim_next(ledger, gather=600)) == [patient, later]
    urgent = ledger.submit(model="another", due_at=datetime.now(UTC) + timedelta(hours=1))
    measuring = ledger.submit(ledger.new_client(), model="another", kind=Kind.evaluate)
    assert {run_of(ledger, claim_next(ledger, gather=600))[0] for _ in range(2)} == {urgent, measuring}


def test_all_that_pass_are_held_by_one_release_each_with_its_own(ledger: Ledger) -> None:
    first, second = ledger.submit(), ledger.submit()
    claim = claim_next(ledger)
    assert claim is not None
    with ledger.sessions.begin() as s:
        own = new_artifact(s, first, FORGOTTEN, sha256="1" * 64, marks=["a"])
        other = new_artifact(s, second, FORGOTTEN, sha256="2" * 64, marks=["b"], replay_set=NewReplaySet(b"key", 3, 30))
        state = endings.finish(s, first, claim.token, own, {second: other})
    assert state is State.succeeded
    with ledger.sessions.begin() as s:
        current = releases.current(s, "demo")
        assert current is not None
        assert (current.job_id, current.number) == (first, 1)
        assert {each.job_id: each.still_forgotten for each in releases.held_by(s, current.id)} == {
            first: True,
            second: True,
        }
        artifacts = {row.job_id: row.sha256 for row in s.scalars(select(Artifact))}
        assert artifacts == {first: "1" * 64, second: "2" * 64}
        assert {(row.job_id, row.mark) for row in s.scalars(select(Mark))} == {(first, "a"), (second, "b")}
        assert [replay_set.job_id for replay_set in s.scalars(select(ReplaySet))] == [second]
        assert repository.evidence_of(s, second) is not None
    for job_id in (first, second):
        job = ledger.job(job_id)
        assert (job.state, job.outcome, job.wrapped_data_key) == (State.succeeded, "forgotten", None)
        assert ledger.history(job_id, "release") == [{"number": 1, "state": "current"}]


def test_one_that_misses_its_targets_is_taken_out_and_the_others_go_on(ledger: Ledger) -> None:
    first, second, third = (ledger.submit() for _ in range(3))
    claim = claim_next(ledger)
    assert claim is not None
    assert finish(ledger, claim, {first: FORGOTTEN, second: MISSED, third: FORGOTTEN}) is State.queued
    assert [ledger.job(job_id).attempt for job_id in (first, second, third)] == [0, 0, 0]
    with ledger.sessions.begin() as s:
        assert releases.current(s, "demo") is None
        assert s.scalars(select(Artifact)).all() == []
    again = claim_next(ledger)
    assert again is not None
    assert run_of(ledger, again) == [first, third]
    assert finish(ledger, again, {first: FORGOTTEN, third: FORGOTTEN}) is State.succeeded
    alone = claim_next(ledger)
    assert alone is not None
    assert run_of(ledger, alone) == [second]
    assert finish(ledger, alone, {second: MISSED}) is State.failed


def test_one_that_is_cancelled_is_taken_out_and_the_others_go_on(ledger: Ledger) -> None:
    first, second, third = (ledger.submit() for _ in range(3))
    claim = claim_next(ledger)
    assert claim is not None
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, second)
        assert claims.heartbeat(s, claim.token, 30).cancel_requested
        assert claims.cancelled(s, claim.token) is State.queued
    assert ledger.job(second).state is State.cancelled
    assert run_of(ledger, claim_next(ledger)) == [first, third]


def test_another_clients_cancellations_hold_nobody_up(ledger: Ledger) -> None:
    other = ledger.new_client()
    first, bait = ledger.submit(), ledger.submit(other)
    claim = claim_next(ledger)
    assert claim is not None
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, other, bait)
        claims.cancelled(s, claim.token)
    assert ledger.job(first).runs_alone
    next_bait = ledger.submit(other)
    assert run_of(ledger, claim_next(ledger)) in ([first], [next_bait])


def test_a_cancellation_at_the_last_moment_takes_its_person_out_of_the_adapter(ledger: Ledger) -> None:
    first, second = ledger.submit(), ledger.submit()
    claim = claim_next(ledger)
    assert claim is not None
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, first)
    assert finish(ledger, claim, {first: FORGOTTEN, second: FORGOTTEN}) is State.cancelled
    with ledger.sessions.begin() as s:
        assert releases.current(s, "demo") is None
    assert run_of(ledger, claim_next(ledger)) == [second]


def test_uploads_of_a_job_that_waits_again_are_never_deleted(ledger: Ledger, blobs: FileBlobStore) -> None:
    job_id = ledger.submit()
    blobs.put_inputs(job_id, b"sealed")
    delete_inputs(ledger.sessions, blobs, job_id)
    assert (blobs.read_inputs(job_id), ledger.job(job_id).inputs_deleted_at) == (b"sealed", None)


def test_an_error_of_nobody_known_is_met_again_by_each_alone(ledger: Ledger) -> None:
    first, second = ledger.submit(), ledger.submit(ledger.new_client())
    claim = claim_next(ledger)
    assert len(run_of(ledger, claim)) == 2
    assert claim is not None
    with ledger.sessions.begin() as s:
        assert endings.fail(s, claim.token, "training-diverged", "The loss isn't finite.") is State.queued
    for job_id in (first, second):
        job = ledger.job(job_id)
        assert (job.runs_alone, job.goes_first, job.attempt) == (True, False, 0)


def test_after_a_crash_each_runs_alone(
    ledger: Ledger, blobs: FileBlobStore, queue: JobQueue, settings: Settings
) -> None:
    first, second, third, fourth = (ledger.submit() for _ in range(4))
    claim = claim_next(ledger, most=2)
    assert claim is not None
    assert run_of(ledger, claim) == [first, second]
    with ledger.sessions.begin() as s:
        claims.release(s, claim.token, max_attempts=MAX_ATTEMPTS, refund=False, reason="crashed")
    assert [ledger.job(job_id).runs_alone for job_id in (first, second)] == [True, True]
    assert run_of(ledger, claim_next(ledger)) == [first]
    ledger.turn_back(first, "lease_expires_at", 60)
    with ledger.sessions.begin() as s:
        s.get_one(Job, second).priority = -1
        s.get_one(Job, first).priority = -1
    reap(ledger.sessions, blobs, settings, queue)
    lost = claim_next(ledger)
    assert run_of(ledger, lost) == [third, fourth]
    for job_id in (third, fourth):
        ledger.turn_back(job_id, "lease_expires_at", 60)
    reap(ledger.sessions, blobs, settings, queue)
    assert [ledger.job(job_id).runs_alone for job_id in (third, fourth)] == [True, True]


def test_progress_and_a_worker_that_stops_are_everybodys(ledger: Ledger) -> None:
    first, second = ledger.submit(), ledger.submit()
    claim = claim_next(ledger)
    assert claim is not None
    with ledger.sessions.begin() as s:
        assert claims.report(s, claim.token, Progress(Phase.distilling, 3, 9, 0.4))
    assert [(ledger.job(job_id).step, ledger.job(job_id).progress) for job_id in (first, second)] == [(3, 0.4)] * 2
    with ledger.sessions.begin() as s:
        claims.release(s, claim.token, max_attempts=MAX_ATTEMPTS, refund=True, reason="worker_stopping")
    assert [(ledger.job(job_id).attempt, ledger.job(job_id).runs_alone) for job_id in (first, second)] == [
        (0, False)
    ] * 2
    assert len(run_of(ledger, claim_next(ledger))) == 2
