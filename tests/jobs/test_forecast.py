"""A queued job's place, against the claims that follow, and its likely start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import text

from jobs import claims, endings, repository
from jobs.claims import Claim
from jobs.clients.access import limits_of
from jobs.queueing.forecast import FARTHEST, Forecast, forecast
from jobs.states import Kind
from jobs.tables import Client
from tests.evidence import FORGOTTEN
from tests.jobs.conftest import Ledger
from tests.jobs.test_turns import BEGIN, JOB, SOON, claim_next, client_with, time_passes
from tests.lines import new_artifact

MINUTE = timedelta(minutes=1)
FAR = datetime.now(UTC) + SOON


def forecast_of(ledger: Ledger, job_id: UUID) -> Forecast:
    job = ledger.job(job_id)
    with ledger.sessions() as s:
        return forecast(s, job)


def minutes_until_start(ledger: Ledger, job_id: UUID) -> float:
    starts_at = forecast_of(ledger, job_id).starts_at
    assert starts_at is not None
    return round((starts_at - datetime.now(UTC)) / MINUTE, 1)


def take(ledger: Ledger) -> Claim:
    claim = claim_next(ledger.sessions)
    assert claim is not None
    return claim


def succeeded(ledger: Ledger, minutes: float, model: str = "demo", kind: Kind = Kind.unlearn) -> None:
    """A job that took so long."""
    job_id = ledger.submit(model=model, kind=kind)
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        if kind is Kind.unlearn:
            endings.finish(s, job_id, claim.token, new_artifact(s, job_id))
        else:
            endings.finish_evaluation(s, job_id, claim.token, FORGOTTEN)
    ledger.turn_back(job_id, "started_at", minutes * 60)


def running_for(ledger: Ledger, minutes: float, **fields: object) -> UUID:
    """A job of another client that has run so long."""
    job_id = ledger.submit(ledger.new_client(), **fields)
    with ledger.sessions.begin() as s:
        assert claims.claim(s, job_id, "worker", 30) is not None
    ledger.turn_back(job_id, "started_at", minutes * 60)
    return job_id


@given(
    urgent=st.lists(st.sampled_from([20, 2, 1, 0]), min_size=1, max_size=3),
    running=st.integers(0, 3),
    jobs=st.lists(JOB, min_size=1, max_size=14),
)
@examples(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_place_is_right_while_nothing_new_comes(
    ledger: Ledger, urgent: list[int], running: int, jobs: list[dict[str, Any]]
) -> None:
    """A worker takes one job after the other, so no client has more running jobs than another for long."""
    with ledger.sessions.begin() as s:
        s.execute(text("TRUNCATE clients, jobs CASCADE"))
    clients = len(urgent)
    owners = [client_with(ledger, 100, most) for most in urgent]
    for number, job in enumerate(jobs):
        due = None if job["due_in"] is None else datetime.now(UTC) + job["due_in"]
        at = BEGIN + timedelta(minutes=job["minute"])
        owner = owners[job["client"] % clients]
        same = {name: job[name] for name in ("priority", "model", "kind")}
        ledger.submit(owner, id=UUID(int=number), due_at=due, created_at=at, **same)
    for _ in range(min(running, len(jobs))):
        end(ledger, take(ledger))
    with ledger.sessions() as s:
        waiting = list(s.scalars(text("SELECT id FROM jobs WHERE state = 'queued'")))
    places = {job_id: forecast_of(ledger, job_id).position for job_id in waiting}
    ranks = ranks_of(ledger, waiting)
    order = []
    for _ in waiting:
        claim = take(ledger)
        order.append(claim.job.id)
        end(ledger, claim)
    for place, job_id in enumerate(order, start=1):
        if len(set(ranks.values())) == 1 or clients == 1:
            assert places[job_id] == place
        else:  # who has had turns with its urgent jobs comes later with its others, which no count foresees
            rivals = [other for other in order if ranks[other] == ranks[job_id]]
            first = order.index(rivals[0]) + 1
            assert first <= (places[job_id] or 0) < first + len(rivals)


def ranks_of(ledger: Ledger, waiting: list[UUID]) -> dict[UUID, tuple[Any, ...]]:
    """What goes before the turns. Of each client as many jobs go by their deadline as it has left."""
    jobs = [ledger.job(job_id) for job_id in waiting]
    with ledger.sessions() as s:
        left = {client.id: limits_of(client).urgent_jobs_per_day - client.urgent_starts for client in s.query(Client)}
    due = {job.id: max(job.due_at, job.created_at) for job in jobs if job.due_at and job.due_at < FAR}
    urgent = set()
    for job in sorted(jobs, key=lambda job: (due.get(job.id, FAR), -job.priority, job.created_at, job.id)):
        if job.id in due and left[job.client_id]:
            left[job.client_id] -= 1
            urgent.add(job.id)
    return {job.id: (due[job.id] if job.id in urgent else None, job.priority) for job in jobs}


def end(ledger: Ledger, claim: Claim) -> None:
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "diverged", "The loss grew.")


def test_places_of_clients_that_take_turns(ledger: Ledger) -> None:
    many = [ledger.submit() for _ in range(6)]
    take(ledger)
    other = ledger.new_client()
    two = [ledger.submit(other) for _ in range(2)]
    assert [forecast_of(ledger, job_id).position for job_id in two] == [1, 3]
    assert [forecast_of(ledger, job_id).position for job_id in many[1:]] == [2, 4, 5, 6, 7]


def test_jobs_that_go_first_stand_before_all_by_their_clients_turns(ledger: Ledger) -> None:
    clients = [ledger.new_client() for _ in range(3)]
    for client in clients:
        ledger.submit(client)
        end(ledger, take(ledger))
    urgent = ledger.submit(due_at=datetime.now(UTC), priority=10)
    waiting = ledger.submit(clients[0])
    first = [ledger.submit(client, goes_first=True, runs_alone=True) for client in reversed(clients)]
    expected = [*reversed(first), urgent, waiting]
    assert [forecast_of(ledger, job_id).position for job_id in expected] == [1, 2, 3, 4, 5]
    order = []
    for _ in expected:
        claim = take(ledger)
        order.append(claim.job.id)
        end(ledger, claim)
    assert order == expected


@pytest.mark.parametrize(("behind", "places"), [(35, [4, 6]), (15, [2, 4]), (5, [2, 4])])
def test_who_has_had_a_long_run_counts_the_others_that_fit_in(ledger: Ledger, behind: int, places: list[int]) -> None:
    succeeded(ledger, 10)
    ahead = text("UPDATE clients SET turn_at = now() + make_interval(mins => :behind) WHERE id = :id")
    with ledger.sessions.begin() as s:
        s.execute(ahead, {"behind": behind, "id": ledger.client_id})
    own, other = [ledger.submit() for _ in range(2)], ledger.new_client()
    others = [ledger.submit(other) for _ in range(6)]
    assert [forecast_of(ledger, job_id).position for job_id in own] == places
    assert sorted(forecast_of(ledger, job_id).position or 0 for job_id in [*own, *others]) == [1, 2, 3, 4, 5, 6, 7, 8]
    order = []
    for _ in range(8):
        claim = take(ledger)
        order.append(claim.job.id)
        time_passes(ledger, 600)
        end(ledger, claim)
    assert [order.index(job_id) + 1 for job_id in own] == places


def test_a_far_place_is_not_counted_to_its_end(ledger: Ledger) -> None:
    succeeded(ledger, 10)
    ledger.submit()
    take(ledger)
    fill = text(
        "INSERT INTO jobs (id, client_id, state, model, config, forget_pairs, probes, job_metadata, request_hash, "
        "attempt, step, total_steps, progress, wrapped_data_key, created_at) "
        "SELECT gen_random_uuid(), :client, 'queued', 'demo', '{}', 1, '{}', '{}', '', 0, 0, 0, 0, '', "
        "now() - make_interval(secs => n) FROM generate_series(1, :count) AS n"
    )
    with ledger.sessions.begin() as s:
        s.execute(fill, {"client": ledger.client_id, "count": FARTHEST + 5})
    assert forecast_of(ledger, ledger.submit()) == Forecast(FARTHEST, None)


def test_nothing_is_foretold_of_a_start_while_nothing_is_known(ledger: Ledger) -> None:
    job_id = ledger.submit()
    assert forecast_of(ledger, job_id) == Forecast(1, None)  # no worker is known, and no duration
    succeeded(ledger, 10, model="other")
    running = running_for(ledger, 0, model="another")
    assert forecast_of(ledger, job_id) == Forecast(1, None)  # no duration of this model
    succeeded(ledger, 10)
    assert minutes_until_start(ledger, job_id) == 10.0
    ledger.turn_back(running, "lease_expires_at", 60)
    assert minutes_until_start(ledger, job_id) == 0.0  # its worker is gone, so nothing runs


def test_while_nothing_runs_the_next_job_starts_now(ledger: Ledger) -> None:
    succeeded(ledger, 10)
    waiting = [ledger.submit() for _ in range(2)]
    assert [minutes_until_start(ledger, job_id) for job_id in waiting] == [0.0, 10.0]


def test_clients_that_may_run_nothing_stand_before_nobody(ledger: Ledger) -> None:
    held_back = client_with(ledger, 0)
    own = ledger.submit(held_back, due_at=datetime.now(UTC))
    assert forecast_of(ledger, ledger.submit()).position == 1
    assert forecast_of(ledger, own).position == 1


def test_a_start_follows_from_the_median_and_the_running_jobs(ledger: Ledger) -> None:
    for minutes in (1, 10, 90):
        succeeded(ledger, minutes, kind=Kind.evaluate)
    running = [running_for(ledger, minutes, kind=Kind.evaluate) for minutes in (4, 7)]
    waiting = [ledger.submit(kind=Kind.evaluate) for _ in range(4)]
    assert [minutes_until_start(ledger, job_id) for job_id in waiting] == [3.0, 6.0, 13.0, 16.0]
    with ledger.sessions.begin() as s:  # what an attempt says of itself is better than the median
        s.execute(
            text("UPDATE jobs SET estimated_finish_at = now() + interval '1 min' WHERE id = :id"), {"id": running[0]}
        )
    assert minutes_until_start(ledger, waiting[0]) == 1.0


@pytest.mark.parametrize(("limit", "minutes"), [(1, [10.0, 20.0]), (2, [0.0, 10.0]), (9, [0.0, 0.0])])
def test_a_start_waits_for_the_clients_own_running_jobs(ledger: Ledger, limit: int, minutes: list[float]) -> None:
    succeeded(ledger, 10, kind=Kind.evaluate)
    for _ in range(3):  # three workers whose jobs are about to end, and one that has just begun
        running_for(ledger, 60, kind=Kind.evaluate)
    own = client_with(ledger, limit)
    ledger.submit(own, kind=Kind.evaluate)
    take(ledger)
    waiting = [ledger.submit(own, kind=Kind.evaluate) for _ in range(2)]
    assert [minutes_until_start(ledger, job_id) for job_id in waiting] == minutes


def test_jobs_of_one_line_start_one_after_the_other(ledger: Ledger) -> None:
    succeeded(ledger, 10)
    for _ in range(9):  # many workers, whose jobs are about to end
        running_for(ledger, 8, model=uuid4().hex)
    own = client_with(ledger, 9)
    waiting = [ledger.submit(client) for client in (own, own, ledger.client_id, own)]
    assert [minutes_until_start(ledger, job_id) for job_id in waiting] == [2.0, 22.0, 12.0, 32.0]
    running_for(ledger, 4)
    assert [minutes_until_start(ledger, job_id) for job_id in waiting] == [6.0, 26.0, 16.0, 36.0]


def test_a_line_waits_only_for_its_own_jobs(ledger: Ledger) -> None:
    for model in ("demo", "other"):
        succeeded(ledger, 10, model)
    succeeded(ledger, 10, kind=Kind.evaluate)
    for _ in range(9):
        running_for(ledger, 8, model=uuid4().hex)
    own, soon = client_with(ledger, 9), datetime.now(UTC)
    for first in ({"priority": 1}, {"due_at": soon}):
        ledger.submit(own, model="other", **first)
        ledger.submit(own, kind=Kind.evaluate, **first)
    before, following = ledger.submit(own, due_at=soon), ledger.submit(own)
    measuring = ledger.submit(own, kind=Kind.evaluate)
    places = [forecast_of(ledger, job_id).position for job_id in (before, following, measuring)]
    starts = [minutes_until_start(ledger, job_id) for job_id in (before, following, measuring)]
    assert (places, starts) == ([3, 6, 7], [2.0, 12.0, 2.0])


def test_a_client_that_may_run_nothing_is_told_no_start(ledger: Ledger) -> None:
    succeeded(ledger, 10)
    ledger.submit()
    take(ledger)
    assert forecast_of(ledger, ledger.submit(client_with(ledger, 0))).starts_at is None


def test_a_forecast_of_an_ended_job_harms_nobody(ledger: Ledger) -> None:
    job_id = ledger.submit()
    job = ledger.job(job_id)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
        assert forecast(s, job).position == 1
