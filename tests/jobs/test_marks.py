"""Marks that count, those that wait for an operator, and what they take out of registered sets."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from jobs import claims, endings
from jobs.lines import forgotten, marks, rollback
from jobs.lines.commands import app
from jobs.lines.marks import Withheld
from jobs.settings import Settings
from tests.evidence import FORGOTTEN
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact

RUNNER = CliRunner()
PLACE = "retain_sets.people.retain"


@pytest.fixture(autouse=True)
def configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the test's database."""
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: settings)


def finished(ledger: Ledger, pairs: int, to_agree: int = 0, of: int = 100) -> UUID:
    """A job that has taken so many pairs out of a set, with a mark of its own and one that waits."""
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
    left = {
        "marks": {f"{job_id.hex}in force"[:64]},
        "marks_to_agree": {f"{job_id.hex}waits"[:64]} if to_agree else (),
        "withheld": [Withheld(PLACE, pairs, to_agree, of)],
    }
    with ledger.sessions.begin() as s:
        endings.finish(s, job_id, claim.token, new_artifact(s, job_id, FORGOTTEN, **left))
    return job_id


def in_force(ledger: Ledger) -> set[str]:
    with ledger.sessions() as s:
        return set(forgotten.marks(s, "demo"))


def run(*typed: str) -> str:
    done = RUNNER.invoke(app, typed)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_operator_sees_what_each_job_takes_out_and_is_warned_of_much(ledger: Ledger) -> None:
    assert "nothing is taken out" in run("marks", "list", "demo")
    little, much = finished(ledger, 5), finished(ledger, 6)
    told = run("marks", "list", "demo")
    assert f"{PLACE}: at most 11 of 100 pairs" in told
    lines = {str(job): next(line for line in told.splitlines() if str(job) in line) for job in (little, much)}
    assert ("WARNING" in lines[str(little)], "WARNING" in lines[str(much)]) == (False, True)
    assert "WARNING: 1 jobs take out more than 5% of a registered set" in run("list", "demo")


def test_a_name_that_nothing_confirms_counts_once_an_operator_agrees(ledger: Ledger) -> None:
    job_id = finished(ledger, 2, to_agree=3)
    assert in_force(ledger) == {f"{job_id.hex}in force"}
    assert "3 more if you agree to its names" in run("marks", "list", "demo")
    run("marks", "agree", "demo", str(job_id))
    assert in_force(ledger) == {f"{job_id.hex}in force", f"{job_id.hex}waits"}
    with ledger.sessions() as s:
        assert [each.withheld for each in marks.withheld_by_job(s, "demo")] == [Withheld(PLACE, 5, 0, 100)]
    assert RUNNER.invoke(app, ["marks", "agree", "demo", str(job_id)]).exit_code == 1, "nothing waits any more"


def test_one_jobs_marks_are_dropped_and_everything_else_stays(ledger: Ledger) -> None:
    dropped, kept = finished(ledger, 5), finished(ledger, 5)
    run("marks", "drop", "demo", str(dropped))
    assert in_force(ledger) == {f"{kept.hex}in force"}
    assert str(dropped) not in run("marks", "list", "demo")
    assert ledger.job(dropped).reverted_at is None
    for unknown in (dropped, uuid4()):
        refused = RUNNER.invoke(app, ["marks", "drop", "demo", str(unknown)])
        assert refused.exit_code == 1
    assert RUNNER.invoke(app, ["marks", "drop", "another", str(kept)]).exit_code == 1
    assert in_force(ledger) == {f"{kept.hex}in force"}


def test_what_is_taken_back_takes_nothing_out_any_more(ledger: Ledger) -> None:
    finished(ledger, 5)
    with ledger.sessions.begin() as s:
        rollback.revert(s, "demo", "wrong person")
    assert not in_force(ledger)
    assert "nothing is taken out" in run("marks", "list", "demo")
