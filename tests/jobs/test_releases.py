"""A model's line of releases: one current, none forks, and each knows whom it holds."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from jobs import claims, endings
from jobs.lines import forgotten, releases, rollback
from jobs.lines.commands import app
from jobs.lines.releases import NewReplaySet, ParentSuperseded
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job, Mark, Release, ReleaseState, ReplaySet
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact


def finished(ledger: Ledger, evidence: dict | None = FORGOTTEN, job_id: UUID | None = None, **release: object) -> UUID:
    """A job that has ended with an adapter."""
    job_id = job_id or ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
    with ledger.sessions.begin() as s:
        endings.finish(s, job_id, claim.token, new_artifact(s, job_id, evidence, **release))
    return job_id


def line(ledger: Ledger) -> list[tuple[int, ReleaseState, UUID]]:
    with ledger.sessions() as s:
        rows = s.scalars(select(Release).order_by(Release.created_at, Release.number)).all()
        return [(row.number, row.state, row.job_id) for row in rows]


def held(ledger: Ledger) -> list[tuple[UUID, bool | None, int]]:
    with ledger.sessions() as s:
        current = releases.current(s, "demo")
        assert current is not None
        return [(each.job_id, each.still_forgotten, each.checked_in) for each in releases.held_by(s, current.id)]


def test_each_job_that_passes_takes_the_place_of_the_one_before(ledger: Ledger) -> None:
    first = finished(ledger)
    second = finished(ledger, still_forgotten={first: True})
    third = finished(ledger)
    assert line(ledger) == [
        (1, ReleaseState.superseded, first), (2, ReleaseState.superseded, second), (3, ReleaseState.current, third)
    ]  # fmt: skip
    # The first was checked by the second's run and not by the third's; the second had no replay set at all.
    assert held(ledger) == [(first, None, 2), (second, None, 2), (third, True, 3)]


def test_what_did_not_pass_is_a_candidate_and_is_held_by_nobody(ledger: Ledger) -> None:
    first = finished(ledger)
    missed = finished(ledger, MISSED)
    unjudged = finished(ledger, None)
    assert line(ledger) == [
        (1, ReleaseState.current, first), (2, ReleaseState.candidate, missed), (3, ReleaseState.candidate, unjudged)
    ]  # fmt: skip
    fourth = finished(ledger)
    assert [job_id for job_id, *_ in held(ledger)] == [first, fourth]


def test_a_run_whose_parent_was_superseded_writes_nothing(ledger: Ledger) -> None:
    first, late = finished(ledger), ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, late, "worker", 30)
        assert claim is not None
        made = new_artifact(s, late, FORGOTTEN, parent_id=None)
    with pytest.raises(ParentSuperseded), ledger.sessions.begin() as s:
        endings.finish(s, late, claim.token, made)
    assert ledger.job(late).state is State.running
    assert line(ledger) == [(1, ReleaseState.current, first)]
    with ledger.sessions.begin() as s:
        endings.finish(s, late, claim.token, new_artifact(s, late, FORGOTTEN))
    assert line(ledger)[-1] == (2, ReleaseState.current, late)


def test_another_base_begins_a_line_of_its_own(ledger: Ledger) -> None:
    first = finished(ledger)
    other = finished(ledger, base_digest="d" * 64)
    assert line(ledger) == [(1, ReleaseState.superseded, first), (1, ReleaseState.current, other)]
    assert [job_id for job_id, *_ in held(ledger)] == [other]


def test_the_database_itself_allows_one_current_release_a_model(ledger: Ledger) -> None:
    finished(ledger)
    finished(ledger)
    with pytest.raises(IntegrityError, match="uq_releases_current"), ledger.sessions.begin() as s:
        s.execute(text("UPDATE releases SET state = 'current', ended_at = NULL"))


def test_marks_and_the_replay_set_come_with_the_release(ledger: Ledger) -> None:
    kept = finished(ledger, marks=["1" * 64, "2" * 64], replay_set=NewReplaySet(b"wrapped", 5, 30))
    missed = finished(ledger, MISSED, marks=["3" * 64], replay_set=NewReplaySet(b"wrapped", 5, 30))
    with ledger.sessions() as s:
        current = releases.current(s, "demo")
        assert current is not None
        assert forgotten.marks(s, "demo") == {"1" * 64, "2" * 64}
        assert releases.replay_sets_of(s, current.id) == {kept: b"wrapped"}
        assert s.get(ReplaySet, missed) is None
        assert set(s.scalars(select(Mark.job_id))) == {kept}
        replay_set = s.get_one(ReplaySet, kept)
        assert (replay_set.expires_at - s.get_one(Job, kept).finished_at).days == 30


def test_drift_is_the_largest_fall_of_a_set_about_others() -> None:
    rows = [("everyone_else.drop", "retain", 0.01), ("everyone_else.drop", "utility", 0.03)]
    rows += [("everyone_else.drop", "neighbours", 0.2), ("generated.rouge_l", "forget", 0.9)]
    evidence = {"figures": [{"figure": name, "set": of, "value": value} for name, of, value in rows]}
    assert releases.drift_of(evidence) == 0.03
    assert releases.drift_of({"figures": []}) is None


def test_a_subject_that_the_current_release_holds_names_its_job(ledger: Ledger) -> None:
    job_id = finished(ledger, job_id=ledger.submit(subject_hash="5" * 64))
    finished(ledger, MISSED, job_id=ledger.submit(subject_hash="6" * 64))
    with ledger.sessions() as s:
        assert releases.job_that_forgot(s, ledger.client_id, "demo", "5" * 64) == job_id
        assert releases.job_that_forgot(s, ledger.client_id, "demo", "6" * 64) is None
        assert releases.job_that_forgot(s, ledger.client_id, "other", "5" * 64) is None
        assert releases.job_that_forgot(s, UUID(int=0), "demo", "5" * 64) is None


def test_a_rollback_names_who_returns_and_tells_their_clients(ledger: Ledger) -> None:
    first = finished(ledger, marks=["1" * 64])
    second = finished(ledger, marks=["2" * 64])
    with ledger.sessions.begin() as s:
        assert rollback.would_return(s, "demo") == [second]
        assert rollback.revert(s, "demo", "wrong person") == 1
    assert [state for _, state, _ in line(ledger)] == [ReleaseState.current, ReleaseState.reverted]
    assert (ledger.job(first).reverted_at, ledger.job(second).reverted_at is not None) == (None, True)
    assert ledger.history(second, "release") == [
        {"number": 2, "state": "current"}, {"number": 2, "state": "reverted", "reason": "wrong person"}
    ]  # fmt: skip
    with ledger.sessions() as s:
        current = releases.current(s, "demo")
        assert current is not None
        assert forgotten.marks(s, "demo") == {"1" * 64}
        assert set(s.scalars(select(Mark.mark))) == {"1" * 64}
    third = finished(ledger)
    assert [job_id for job_id, *_ in held(ledger)] == [first, third]

    with ledger.sessions.begin() as s:
        rollback.revert(s, "demo", "again")
        assert rollback.revert(s, "demo", "all of it") is None
        assert rollback.would_return(s, "demo") is None
    with pytest.raises(LookupError), ledger.sessions.begin() as s:
        rollback.revert(s, "demo", "nothing left")


def test_only_the_release_that_was_shown_is_taken_back(ledger: Ledger) -> None:
    finished(ledger)
    with ledger.sessions.begin() as s:
        shown = releases.current(s, "demo")
        assert shown is not None
    finished(ledger)
    with ledger.sessions.begin() as s, pytest.raises(rollback.OtherRelease):
        rollback.revert(s, "demo", "wrong person", shown.id)
    assert [state for _, state, _ in line(ledger)] == [ReleaseState.superseded, ReleaseState.current]


def test_a_run_that_started_from_what_was_taken_back_starts_over(ledger: Ledger) -> None:
    finished(ledger)
    finished(ledger)
    late = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, late, "worker", 30)
        assert claim is not None
        made = new_artifact(s, late, FORGOTTEN)
    with ledger.sessions.begin() as s:
        rollback.revert(s, "demo", "wrong person")
    with pytest.raises(ParentSuperseded), ledger.sessions.begin() as s:
        endings.finish(s, late, claim.token, made)


def test_the_operators_commands(ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: settings)
    run = CliRunner()
    assert run.invoke(app, ["list", "demo"]).exit_code == 1
    first, second = finished(ledger), finished(ledger)
    listed = run.invoke(app, ["list", "demo"]).stdout.splitlines()
    assert ["2 requests, 1 unchecked" in listed[0], "1 requests, 0 unchecked" in listed[1]] == [True, True]
    assert [row.split()[-1] for row in listed] == ["current", "superseded"]
    asked = run.invoke(app, ["revert", "demo", "--reason", "wrong person"], input="n\n")
    assert (asked.exit_code, str(second) in asked.stdout, str(first) in asked.stdout) == (1, True, False)
    assert ledger.job(second).reverted_at is None
    done = run.invoke(app, ["revert", "demo", "--reason", "wrong person", "--yes"])
    assert (done.exit_code, "release 1 is current now" in done.stdout) == (0, True)
    assert "reverted: wrong person" in run.invoke(app, ["list", "demo"]).stdout
    assert run.invoke(app, ["revert", "demo", "--reason", " "]).exit_code == 2
    assert run.invoke(app, ["revert", "other", "--reason", "x", "--yes"]).exit_code == 1
