"""A client's queries: its own jobs only, in pages, and one job per idempotency key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from jobs import claims, endings, repository
from jobs.clients import access
from jobs.repository import JobEnded
from jobs.states import State
from tests.jobs.conftest import Ledger


def test_a_submitted_job_is_queued_with_all_its_fields(ledger: Ledger) -> None:
    due = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    job_id = ledger.submit(external_id="DSR-7", job_metadata={"region": "eu"}, due_at=due, legal_basis="art. 17")
    job = ledger.job(job_id)
    assert (job.state, job.attempt, job.progress, job.phase) == (State.queued, 0, 0.0, None)
    assert (job.external_id, job.job_metadata, job.due_at) == ("DSR-7", {"region": "eu"}, due)
    assert (job.probes, job.config) == ({"rephrased": 2}, {"seed": 0})
    assert job.created_at.tzinfo is UTC
    assert ledger.history(job_id) == [{"state": "queued", "attempt": 0}]


def test_a_returned_job_can_be_read_after_its_transaction(ledger: Ledger) -> None:
    with ledger.sessions.begin() as s:
        job = ledger.new_job()
        repository.submit(s, job)
    assert job.created_at == job.updated_at
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job.id, "worker", 30)
    assert claim is not None
    assert claim.job.updated_at > job.created_at
    with ledger.sessions.begin() as s:
        asked = repository.request_cancel(s, ledger.client_id, job.id)
    assert asked is not None
    assert asked.updated_at > claim.job.updated_at


def test_another_clients_job_does_not_exist(ledger: Ledger) -> None:
    job_id, unseen_face = ledger.submit(idempotency_key="k"), ledger.new_client()
    with ledger.sessions.begin() as s:
        assert repository.get_job(s, unseen_face, job_id) is None
        assert repository.request_cancel(s, unseen_face, job_id) is None
        assert repository.find_by_idempotency_key(s, unseen_face, "k") is None
        assert repository.get_job(s, ledger.client_id, job_id) is not None
    assert ledger.job(job_id).state is State.queued


def test_a_queued_job_is_cancelled_at_once(ledger: Ledger) -> None:
    job_id = ledger.submit()
    for _ in range(2):  # asking again changes nothing
        with ledger.sessions.begin() as s:
            job = repository.request_cancel(s, ledger.client_id, job_id)
        assert job is not None
        assert (job.state, job.wrapped_data_key) == (State.cancelled, None)
    assert [event["state"] for event in ledger.history(job_id)] == ["queued", "cancelled"]


def test_a_running_job_is_asked_to_stop(ledger: Ledger) -> None:
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claims.claim(s, job_id, "worker", 30)
    asked = []
    for _ in range(2):
        with ledger.sessions.begin() as s:
            job = repository.request_cancel(s, ledger.client_id, job_id)
        assert job is not None
        assert job.state is State.running
        asked.append(job.cancel_requested_at)
    assert asked[0] is not None
    assert asked[0] == asked[1]


def test_an_ended_job_can_not_be_cancelled(ledger: Ledger) -> None:
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        endings.fail(s, claim.token, "diverged", "The loss grew without bound.")
    with ledger.sessions.begin() as s, pytest.raises(JobEnded) as caught:
        repository.request_cancel(s, ledger.client_id, job_id)
    assert caught.value.state is State.failed


def test_one_of_many_simultaneous_submissions_holds_the_idempotency_key(ledger: Ledger) -> None:
    start, done = Barrier(8), Barrier(8)

    def submit(_: int) -> bool:
        with ledger.sessions.begin() as s:
            start.wait()
            locked = repository.try_idempotency_lock(s, ledger.client_id, "k")
            done.wait()
            if locked:
                repository.submit(s, ledger.new_job(idempotency_key="k"))
            return locked

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(8))) == 1
    with ledger.sessions.begin() as s:
        assert repository.try_idempotency_lock(s, ledger.client_id, "k")  # free again after the commit
        assert repository.find_by_idempotency_key(s, ledger.client_id, "k") is not None


def test_keys_of_different_clients_are_independent(ledger: Ledger) -> None:
    unseen_face = ledger.new_client()
    with ledger.sessions.begin() as one, ledger.sessions.begin() as two:
        assert repository.try_idempotency_lock(one, ledger.client_id, "k")
        assert repository.try_idempotency_lock(two, ledger.client_id, "l")
        assert repository.try_idempotency_lock(two, unseen_face, "k")
        assert not repository.try_idempotency_lock(two, ledger.client_id, "k")


def test_the_database_refuses_a_second_job_with_the_key(ledger: Ledger) -> None:
    ledger.submit(idempotency_key="k")
    with pytest.raises(IntegrityError):
        ledger.submit(idempotency_key="k")
    ledger.submit(client_id=ledger.new_client(), idempotency_key="k")


def test_events_resume_after_the_last_one_seen(ledger: Ledger) -> None:
    job_id, other = ledger.submit(), ledger.submit()
    with ledger.sessions.begin() as s:
        claims.claim(s, job_id, "worker", 30)
        claims.claim(s, other, "worker", 30)
    with ledger.sessions.begin() as s:
        everything = repository.events_after(s, job_id, 0, 100)
        rest = repository.events_after(s, job_id, everything[0].id, 1)
    assert [event.kind for event in everything] == ["state", "state", "phase"]
    assert [event.id for event in rest] == [everything[1].id]


def test_inputs_are_marked_deleted_once(ledger: Ledger) -> None:
    job_id = ledger.submit()
    moments = []
    for _ in range(2):
        with ledger.sessions.begin() as s:
            repository.mark_inputs_deleted(s, job_id)
        moments.append(ledger.job(job_id).inputs_deleted_at)
    assert moments[0] is not None
    assert moments[0] == moments[1]


def test_a_key_authenticates_its_client_until_revoked(ledger: Ledger) -> None:
    with ledger.sessions.begin() as s:
        client = access.create_client(s, "acme")
        key, secret = access.create_key(s, client)
        _, second = access.create_key(s, client)
    assert secret.startswith(key.prefix)
    assert secret not in (key.secret_hash, key.prefix)
    with ledger.sessions.begin() as s:
        assert access.authenticate(s, secret) == (client.id, frozenset())
        for wrong in ("", secret[:-1], key.prefix, key.secret_hash, f"vgid_{uuid4().hex}"):
            assert access.authenticate(s, wrong) is None
        assert access.revoke_key(s, key.prefix)
        assert not access.revoke_key(s, key.prefix)
        assert access.authenticate(s, secret) is None
        assert access.authenticate(s, second) is not None
