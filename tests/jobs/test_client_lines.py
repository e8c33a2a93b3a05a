"""Lines that a client has for itself: nothing of one is seen, awaited or changed by another."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner, Result

from jobs import claims, endings
from jobs.clients import access
from jobs.lines import forgotten, permitted, rebuilds, releases, rollback
from jobs.lines.commands import app
from jobs.lines.releases import NewReplaySet
from jobs.queueing.forecast import forecast
from jobs.settings import Settings
from jobs.states import SHARED_LINE, State
from jobs.tables import Client, Job, Release, ReleaseState, Right
from tests.evidence import FORGOTTEN
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact


def finished(ledger: Ledger, client_id: UUID, line: str | None = None, **release: object) -> UUID:
    """A job of the client's own line, or of this one, that has ended with an adapter."""
    job_id = ledger.submit(client_id, line=str(client_id) if line is None else line)
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
    with ledger.sessions.begin() as s:
        endings.finish(s, job_id, claim.token, new_artifact(s, job_id, FORGOTTEN, **release))
    return job_id


def line(ledger: Ledger, name: str) -> list[tuple[int, ReleaseState, UUID]]:
    with ledger.sessions() as s:
        return [(row.number, row.state, row.job_id) for row in releases.line_of(s, "demo", name)][::-1]


def test_two_clients_lines_grow_apart_from_each_other_and_from_the_shared_one(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    shared = finished(ledger, one, SHARED_LINE, marks=["0" * 64])
    first = finished(ledger, one, marks=["1" * 64], replay_set=NewReplaySet(b"of one", 5, 30))
    other = finished(ledger, two, marks=["2" * 64])
    second = finished(ledger, one)
    assert line(ledger, SHARED_LINE) == [(1, ReleaseState.current, shared)]
    assert line(ledger, str(one)) == [(1, ReleaseState.superseded, first), (2, ReleaseState.current, second)]
    assert line(ledger, str(two)) == [(1, ReleaseState.current, other)]
    with ledger.sessions() as s:
        assert {name: forgotten.marks(s, "demo", name) for name in (SHARED_LINE, str(one), str(two))} == {
            SHARED_LINE: {"0" * 64}, str(one): {"1" * 64}, str(two): {"2" * 64}
        }  # fmt: skip
        assert forgotten.whom(s, "demo", line=str(two)).replay_sets == {}
        assert forgotten.whom(s, "demo", line=str(one)).replay_sets == {first: b"of one"}
        held = releases.current(s, "demo", str(two))
        assert held is not None
        assert [each.job_id for each in releases.held_by(s, held.id)] == [other]
        assert forgotten.not_held(s, "demo", held.id) == []
        # A client is told of all its jobs that what it serves doesn't hold, wherever they were filed.
        mine = releases.current(s, "demo", str(one))
        assert mine is not None
        assert forgotten.not_held(s, "demo", mine.id, one) == [shared]


def test_each_line_has_one_current_release_and_one_training(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    running = {who: ledger.submit(who, line=str(who)) for who in (one, two)}
    waiting = ledger.submit(one, line=str(one))
    shared = ledger.submit(two)
    started = [claim.job.id for claim in iter(ledger.claim_next, None)]
    assert set(started) == {*running.values(), shared}
    assert ledger.job(waiting).state is State.queued
    with pytest.raises(IntegrityError, match="uq_jobs_line"), ledger.sessions.begin() as s:
        s.get_one(Job, running[two]).line = str(one)
    made = [finished(ledger, client) for client in (ledger.new_client(), ledger.new_client())]
    moved = update(Release).where(Release.job_id == made[0]).values(number=7, line=ledger.job(made[1]).line)
    with pytest.raises(IntegrityError, match="uq_releases_current"), ledger.sessions.begin() as s:
        s.execute(moved)


def test_requests_are_run_together_within_a_line_alone(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    first = ledger.submit(one, line=str(one))
    others = [ledger.submit(two, line=str(two)), ledger.submit(two), ledger.submit(one)]
    second = ledger.submit(one, line=str(one))
    claim = ledger.claim_next(run_requests=5)
    assert claim is not None
    assert claim.job.id == first
    assert [ledger.job(each).run_of for each in (second, *others)] == [first, None, None, None]


def test_another_lines_jobs_and_rebuild_hold_nobody_up(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    finished(ledger, one, replay_set=NewReplaySet(b"of one", 5, 30))
    with ledger.sessions.begin() as s:
        rebuild = rebuilds.order(s, "demo", None, 5, line=str(one)).id
        with pytest.raises(rebuilds.AlreadyOrdered):
            rebuilds.order(s, "demo", None, 5, line=str(one))
        assert rebuilds.open_rebuild(s, "demo", str(two)) is None
    own, other = ledger.submit(one, line=str(one)), ledger.submit(two, line=str(two))
    with ledger.sessions() as s:
        assert [forecast(s, s.get_one(Job, each)).rebuild for each in (own, other)] == [True, False]
    started = [claim.job.id for claim in iter(ledger.claim_next, None)]
    assert set(started) == {rebuild, other}


def test_what_is_taken_back_in_one_line_stays_in_another(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    first, other = finished(ledger, one), finished(ledger, two)
    with ledger.sessions.begin() as s:
        assert rollback.would_return(s, "demo", str(one)) == [first]
        assert rollback.would_return(s, "demo") is None
        with pytest.raises(LookupError):
            rollback.revert(s, "demo", "wrong person")
        assert rollback.revert(s, "demo", "wrong person", line=str(one)) is None
    assert line(ledger, str(two)) == [(1, ReleaseState.current, other)]
    assert ledger.job(other).reverted_at is None


def test_who_may_see_a_release_is_asked_line_by_line(ledger: Ledger) -> None:
    one, two = ledger.client_id, ledger.new_client()
    finished(ledger, one, marks=["1" * 64])

    def sees(client: UUID, of: str, *rights: Right) -> bool:
        with ledger.sessions() as s:
            return permitted.visible(s, "demo", of, access.KeyHolder(client, frozenset(rights))) is not None

    assert (sees(one, str(one)), sees(two, str(two)), sees(two, str(two), Right.serve)) == (True, False, False)
    assert (sees(one, SHARED_LINE), sees(one, SHARED_LINE, Right.serve)) == (False, False)
    with ledger.sessions() as s:
        assert permitted.own_photos(s, "demo", str(one), one, {"1" * 64})
        assert not permitted.own_photos(s, "demo", str(one), one, {"1" * 64, "2" * 64})
        assert not permitted.own_photos(s, "demo", str(one), one, set())
        assert not permitted.own_photos(s, "demo", str(one), two, {"1" * 64})
        assert not permitted.own_photos(s, "demo", SHARED_LINE, one, {"1" * 64})


def test_operators_name_the_client_whose_line_they_mean(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: settings)
    one, two = ledger.client_id, ledger.new_client()
    first, other = finished(ledger, one), finished(ledger, two)
    with ledger.sessions() as s:
        names = {each.id: each.name for each in s.scalars(select(Client))}
        order = rebuilds.order(s, "demo", None, 5, line=str(two)).id
        s.commit()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    nothing = run("list", "demo")
    assert (nothing.exit_code, "name one with --client" in nothing.stderr) == (1, True)
    assert run("list", "demo", "--client", "nobody").exit_code == 1
    assert f"rebuild {order}: queued" in run("list", "demo", "--client", names[two]).stdout
    assert "rebuild" not in run("list", "demo", "--client", names[one]).stdout
    done = run("revert", "demo", "--reason", "wrong person", "--client", names[one], "--yes")
    assert (done.exit_code, str(first) in done.stdout, str(other) in done.stdout) == (0, True, False)
    assert (run("stop", "demo").exit_code, run("stop", "demo", "--client", names[one]).exit_code) == (1, 1)
    assert run("stop", "demo", "--client", names[two]).exit_code == 0
    assert ledger.job(order).state is State.cancelled
    assert line(ledger, str(two)) == [(1, ReleaseState.current, other)]
