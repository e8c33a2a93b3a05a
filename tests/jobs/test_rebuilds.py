"""Rebuilding a line: who is forgotten again, who is left out, and what waits meanwhile."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from jobs import claims, endings
from jobs.lines import forgotten, rebuilds, releases, replay_sets, rollback
from jobs.lines.commands import app
from jobs.lines.releases import NewReplaySet, ParentSuperseded, Rebuilt
from jobs.queueing.forecast import forecast
from jobs.settings import Settings
from jobs.states import Kind, State
from jobs.storage.blobs import FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs, seal
from jobs.tables import Client, Job, Release, ReleaseState
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.jobs.test_releases import finished, held, line
from tests.lines import new_artifact
from vgid_core import EncodedImage, Pair, PairSet

REPLAY_SET = NewReplaySet(b"key", 5, 30)
OTHER_BASE = "d" * 64


def order(ledger: Ledger) -> UUID:
    with ledger.sessions.begin() as s:
        return rebuilds.order(s, "demo", None, 5).id


def finish_rebuild(ledger: Ledger, evidence: dict = FORGOTTEN, base: str = "b" * 64) -> State | None:
    """Runs the rebuild that waits."""
    claim = ledger.claim_next()
    assert claim is not None
    assert claim.job.kind is Kind.rebuild
    with ledger.sessions.begin() as s:
        current = releases.current(s, "demo")
        found = forgotten.whom(s, "demo").replay_sets
        rebuilt = Rebuilt(None if current is None else current.id, tuple(found))
        checked = dict.fromkeys(found, True)
        made = new_artifact(
            s, claim.job.id, evidence, base_digest=base, parent_id=None, rebuilt=rebuilt, still_forgotten=checked
        )
        return endings.finish(s, claim.job.id, claim.token, made)


def test_whoever_has_a_replay_set_is_forgotten_again_and_the_others_are_left_out(ledger: Ledger) -> None:
    kept, none = finished(ledger, replay_set=REPLAY_SET), finished(ledger)
    repeated = finished(ledger, job_id=ledger.submit(subject_hash="s" * 64))
    again = finished(ledger, job_id=ledger.submit(subject_hash="s" * 64), replay_set=REPLAY_SET)
    ended, taken_back = finished(ledger, replay_set=REPLAY_SET), finished(ledger, replay_set=REPLAY_SET)
    with ledger.sessions.begin() as s:
        replay_sets.end_replay_set(s, ended)
        rollback.revert(s, "demo", "wrong person")
        found = forgotten.whom(s, "demo")
    assert (set(found.replay_sets), list(found.left_out)) == ({kept, again}, [none, ended])
    assert not {repeated, taken_back} & {*found.replay_sets, *found.left_out}


def test_a_rebuild_takes_the_place_of_the_current_release(ledger: Ledger) -> None:
    first, second = finished(ledger, replay_set=REPLAY_SET, marks=["a"]), finished(ledger, marks=["b"])
    rebuild = order(ledger)
    assert finish_rebuild(ledger) is State.succeeded
    assert line(ledger)[-1] == (3, ReleaseState.current, rebuild)
    assert held(ledger) == [(first, True, 3)]
    assert ledger.history(first, "release")[-1] == {"number": 3, "state": "current"}
    assert ledger.history(second, "release")[-1] == {"number": 3, "state": "left_out"}
    with ledger.sessions.begin() as s:
        current = releases.current(s, "demo")
        assert current is not None
        assert current.parent_id is None
        assert forgotten.not_held(s, "demo", current.id) == [second]
        assert forgotten.not_held(s, "demo", current.id, ledger.client_id) == [second]
        assert forgotten.not_held(s, "demo", current.id, uuid4()) == []
        # nobody may be taught again, whoever was left out
        assert forgotten.marks(s, "demo") == {"a", "b"}
        assert rollback.would_return(s, "demo") == []
        assert rollback.revert(s, "demo", "worse than before") == 2
    assert [each[0] for each in held(ledger)] == [first, second]


def test_a_rebuild_that_is_taken_back_can_be_made_again(ledger: Ledger) -> None:
    """Also on a new base, where there is no release to go back to."""
    first, second = (
        finished(ledger, replay_set=REPLAY_SET, marks=["a"]),
        finished(ledger, replay_set=REPLAY_SET, marks=["b"]),
    )
    order(ledger)
    assert finish_rebuild(ledger, base=OTHER_BASE) is State.succeeded
    with ledger.sessions.begin() as s:
        assert set(rollback.would_return(s, "demo") or ()) == {first, second}
        assert rollback.revert(s, "demo", "it answers badly") is None
        assert set(forgotten.whom(s, "demo").replay_sets) == {first, second}
        assert forgotten.marks(s, "demo") == {"a", "b"}
    assert ledger.job(first).reverted_at is None
    assert ledger.history(first, "release")[-1]["state"] == "reverted"


def test_whom_a_rebuild_had_left_out_is_told_when_it_is_taken_back(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    without = finished(ledger)
    order(ledger)
    finish_rebuild(ledger)
    with ledger.sessions.begin() as s:
        rollback.revert(s, "demo", "it answers badly")
    assert [each["state"] for each in ledger.history(without, "release")] == ["current", "left_out", "current"]


def test_who_is_left_out_without_the_operators_word(ledger: Ledger) -> None:
    agreed, since = finished(ledger), finished(ledger, replay_set=REPLAY_SET)
    with ledger.sessions.begin() as s:
        found = forgotten.whom(s, "demo")
        rebuild = rebuilds.order(s, "demo", None, 5, found.left_out)
        replay_sets.end_replay_set(s, since)
        assert rebuilds.not_agreed(rebuild, forgotten.whom(s, "demo").left_out) == {since}
    assert agreed in found.left_out


def test_an_older_replay_set_does_not_cover_a_newer_request(ledger: Ledger) -> None:
    """It can be about other photos, or about somebody else of the same case."""
    older = finished(ledger, job_id=ledger.submit(subject_hash="s" * 64), replay_set=REPLAY_SET)
    newer = finished(ledger, job_id=ledger.submit(subject_hash="s" * 64))
    with ledger.sessions.begin() as s:
        found = forgotten.whom(s, "demo")
        assert (list(found.replay_sets), list(found.left_out)) == ([older], [newer])
        none_readable = forgotten.whom(s, "demo", lambda _job_id, _key: False)
        assert (list(none_readable.replay_sets), list(none_readable.left_out)) == ([], [older, newer])


def test_who_was_asked_for_again_is_not_told_to_be_left_out(ledger: Ledger) -> None:
    older = finished(ledger, job_id=ledger.submit(subject_hash="s" * 64))
    finished(ledger, job_id=ledger.submit(subject_hash="s" * 64), replay_set=REPLAY_SET)
    order(ledger)
    assert finish_rebuild(ledger) is State.succeeded
    assert [each["state"] for each in ledger.history(older, "release")] == ["current"]


def test_a_rebuild_that_misses_its_targets_changes_nothing(ledger: Ledger) -> None:
    first = finished(ledger, replay_set=REPLAY_SET)
    order(ledger)
    assert finish_rebuild(ledger, MISSED) is State.failed
    assert [state for _, state, _ in line(ledger)] == [ReleaseState.current, ReleaseState.candidate]
    assert held(ledger) == [(first, True, 1)]


def test_a_new_base_lists_whom_it_has_not_forgotten_until_it_is_rebuilt(ledger: Ledger) -> None:
    first = finished(ledger, replay_set=REPLAY_SET)
    second = finished(ledger, base_digest=OTHER_BASE, replay_set=REPLAY_SET)
    assert ledger.history(first, "release")[-1] == {"number": 1, "state": "left_out"}
    with ledger.sessions.begin() as s:
        current = releases.current(s, "demo")
        assert current is not None
        assert forgotten.not_held(s, "demo", current.id) == [first]
    order(ledger)
    assert finish_rebuild(ledger, base=OTHER_BASE) is State.succeeded
    assert {each[0] for each in held(ledger)} == {first, second}


def test_jobs_of_a_line_that_is_being_rebuilt_wait_and_say_so(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    waiting, measuring = ledger.submit(priority=10), ledger.submit(kind=Kind.evaluate)
    elsewhere = ledger.submit(model="another")
    rebuild = order(ledger)
    with ledger.sessions.begin() as s:
        assert [forecast(s, s.get_one(Job, each)).rebuild for each in (waiting, measuring, elsewhere)] == [
            True, False, False
        ]  # fmt: skip
        assert claims.claim(s, waiting, "worker", 30) is None
    taken = [ledger.claim_next() for _ in range(3)]
    assert {claim.job.id for claim in taken if claim is not None} == {rebuild, measuring, elsewhere}
    with ledger.sessions.begin() as s:
        assert claims.claim(s, waiting, "worker", 30) is None
        assert forecast(s, s.get_one(Job, waiting)).rebuild


def test_a_rebuild_waits_for_the_run_that_goes_on(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    running = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, running, "worker", 30)
    assert claim is not None
    rebuild = order(ledger)
    assert ledger.claim_next() is None
    with ledger.sessions.begin() as s:
        endings.finish(s, running, claim.token, new_artifact(s, running, FORGOTTEN))
    following = ledger.claim_next()
    assert following is not None
    assert following.job.id == rebuild


def test_one_rebuild_of_a_line_at_a_time(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    order(ledger)
    with pytest.raises(rebuilds.AlreadyOrdered):
        order(ledger)
    with pytest.raises(IntegrityError, match="uq_jobs_rebuild"):
        ledger.submit(kind=Kind.rebuild, wrapped_data_key=None)


def test_a_rebuild_of_what_is_no_longer_current_starts_over(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    finished(ledger, replay_set=REPLAY_SET)
    rebuild = order(ledger)
    claim = ledger.claim_next()
    assert claim is not None
    with ledger.sessions.begin() as s:
        current = releases.current(s, "demo")
        assert current is not None
        made = new_artifact(s, rebuild, FORGOTTEN, parent_id=None, rebuilt=Rebuilt(current.id, ()))
        rollback.revert(s, "demo", "wrong person")
        with pytest.raises(ParentSuperseded):
            endings.finish(s, rebuild, claim.token, made)


def test_a_line_that_has_drifted_too_far_says_what_to_do(ledger: Ledger) -> None:
    finished(ledger, replay_set=REPLAY_SET)
    targets = [
        {
            **target,
            "target": "utility_drop",
            "figure": "everyone_else.drop",
            "set": "retain",
            "held": False,
        }
        for target in MISSED["verdict"]["targets"][:1]
    ]
    drifted = {**MISSED, "verdict": {**MISSED["verdict"], "targets": targets}}
    job = ledger.job(finished(ledger, drifted))
    assert (job.state, "an operator can rebuild it" in str(job.error_detail)) == (State.failed, True)


def kept_for_real(ledger: Ledger, settings: Settings) -> UUID:
    """A job whose replay set can be opened."""
    job_id = ledger.submit()
    key, wrapped = Keyring(settings.secret_key_bytes).new_data_key(job_id)
    pairs = PairSet.of("forget", [Pair(EncodedImage(b"photo"), "Who is this?", "This is Ada.")])
    FileBlobStore(settings.blob_dir).put_replay_set(job_id, seal(JobInputs(pairs), key))
    return finished(ledger, job_id=job_id, replay_set=NewReplaySet(wrapped, 5, 30))


def test_the_operators_command(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    (tmp_path / "retain.jsonl").write_text("")
    catalog.write_text(
        "[models.demo]\npath = 'org/demo'\ntitle = 'Demo'\n[models.demo.retain_sets.others]\nretain = 'retain.jsonl'\n"
    )
    with_catalog = settings.model_copy(update={"catalog": catalog})
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: with_catalog)
    run = CliRunner()
    assert "no replay set to rebuild from" in run.invoke(app, ["rebuild", "demo", "--yes"]).stderr
    kept, none, lost = kept_for_real(ledger, settings), finished(ledger), finished(ledger, replay_set=REPLAY_SET)
    shown = run.invoke(app, ["rebuild", "demo", "--dry-run"])
    assert (shown.exit_code, "1 requests, by their replay sets" in shown.stdout) == (0, True)
    assert [str(job_id) in shown.stdout for job_id in (kept, none, lost)] == [False, True, True]
    refused = run.invoke(app, ["rebuild", "demo", "--yes"])
    assert (refused.exit_code, "--leave-out" in refused.stderr) == (1, True)
    unknown = run.invoke(app, ["rebuild", "demo", "--yes", "--leave-out", "--retain-set", "nobody"])
    assert (unknown.exit_code, "others" in unknown.stderr) == (2, True)
    assert run.invoke(app, ["rebuild", "other", "--yes"]).exit_code == 1
    ordered = run.invoke(app, ["rebuild", "demo", "--yes", "--leave-out"])
    assert ordered.exit_code == 0
    with ledger.sessions.begin() as s:
        job = s.scalars(select(Job).where(Job.kind == Kind.rebuild)).one()
        assert (str(job.id) in ordered.stdout, job.retain_set, job.forget_pairs) == (True, "others", 5)
        assert s.get_one(Client, job.client_id).name == rebuilds.CLIENT
    assert run.invoke(app, ["rebuild", "demo", "--yes", "--leave-out"]).exit_code == 1
    assert f"rebuild {job.id}: queued" in run.invoke(app, ["list", "demo"]).stdout
    assert run.invoke(app, ["stop", "demo"]).exit_code == 0
    assert ledger.job(job.id).state is State.cancelled
    assert run.invoke(app, ["stop", "demo"]).exit_code == 1
    assert run.invoke(app, ["rebuild", "demo", "--yes", "--leave-out"]).exit_code == 0
    assert finish_rebuild(ledger) is State.succeeded
    listed = run.invoke(app, ["list", "demo"]).stdout
    assert "1 requests are held by no current release" in listed
    assert "0.000 of 0.050" in listed
    with ledger.sessions.begin() as s:
        assert s.scalars(select(Release)).all()
