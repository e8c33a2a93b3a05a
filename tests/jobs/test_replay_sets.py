"""Replay sets: what is kept of a job, until its client or its retention ends that; then a receipt says so."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner, Result

from jobs.lines import commands, replay_sets
from jobs.lines.releases import NewReplaySet
from jobs.settings import Settings
from jobs.signing import keys
from jobs.signing.receipt import sign_receipts
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.tables import ReplaySet
from tests.jobs.conftest import Ledger
from tests.jobs.test_releases import finished
from vgid_verify import verify_receipt

RUNNER = CliRunner()
DAY = timedelta(days=1)


@pytest.fixture
def kept(ledger: Ledger, blobs: FileBlobStore) -> UUID:
    """A job of which a replay set is kept."""
    job_id = ledger.submit()
    blobs.put_replay_set(job_id, b"sealed")
    return finished(ledger, job_id=job_id, replay_set=NewReplaySet(b"wrapped", 5, 30))


def replay_set(ledger: Ledger, job_id: UUID) -> ReplaySet:
    with ledger.sessions() as s:
        return s.get_one(ReplaySet, job_id)


def age(settings: Settings, job_id: UUID) -> None:
    hours_ago = (datetime.now(UTC) - DAY).timestamp()
    os.utime(settings.blob_dir / "replay_sets" / f"{job_id}.bin", (hours_ago, hours_ago))


def test_ending_a_replay_set_destroys_its_key_before_its_file(ledger: Ledger, blobs: FileBlobStore, kept: UUID) -> None:
    assert blobs.read_replay_set(kept) == b"sealed"
    with ledger.sessions.begin() as s:
        assert replay_sets.end_replay_set(s, kept)
    assert (replay_set(ledger, kept).wrapped_key, replay_set(ledger, kept).deleted_at) == (None, None)
    replay_sets.delete_replay_set_file(ledger.sessions, blobs, kept)
    with pytest.raises(BlobMissing):
        blobs.read_replay_set(kept)
    gone = replay_set(ledger, kept).deleted_at
    replay_sets.delete_replay_set_file(ledger.sessions, blobs, kept)
    assert replay_set(ledger, kept).deleted_at == gone is not None
    with ledger.sessions.begin() as s:
        assert not replay_sets.end_replay_set(s, kept)


def test_the_reaper_ends_what_is_over_and_finishes_what_a_crash_has_left(
    ledger: Ledger, blobs: FileBlobStore, kept: UUID
) -> None:
    other = ledger.submit()
    blobs.put_replay_set(other, b"sealed")
    finished(ledger, job_id=other, replay_set=NewReplaySet(b"wrapped", 5, 30))
    with ledger.sessions.begin() as s:
        s.execute(text("UPDATE replay_sets SET expires_at = now() WHERE job_id = :id"), {"id": kept})
    assert replay_sets.reap_replay_sets(ledger.sessions, blobs) == [kept]
    assert replay_set(ledger, kept).deleted_at is not None
    assert replay_sets.reap_replay_sets(ledger.sessions, blobs) == []
    with ledger.sessions.begin() as s:
        replay_sets.end_replay_set(s, other)
    assert replay_sets.reap_replay_sets(ledger.sessions, blobs) == [other]


def test_a_file_that_no_replay_set_names_is_deleted_once_it_is_old(
    ledger: Ledger, blobs: FileBlobStore, settings: Settings, kept: UUID
) -> None:
    blobs.put_replay_set(orphan := uuid4(), b"sealed")
    assert replay_sets.reap_replay_sets(ledger.sessions, blobs) == []
    age(settings, orphan)
    age(settings, kept)
    assert replay_sets.reap_replay_sets(ledger.sessions, blobs) == [orphan]
    assert blobs.read_replay_set(kept) == b"sealed"


def test_a_receipt_says_that_it_was_kept_and_is_gone(
    ledger: Ledger, blobs: FileBlobStore, kept: UUID, tmp_path: Path
) -> None:
    root = tmp_path / "keys"
    with ledger.sessions.begin() as s:
        keys.create(s, root)
    assert sign_receipts(ledger.sessions, root) == []
    with ledger.sessions.begin() as s:
        replay_sets.end_replay_set(s, kept)
    replay_sets.delete_replay_set_file(ledger.sessions, blobs, kept)
    assert sign_receipts(ledger.sessions, root) == [kept]
    assert sign_receipts(ledger.sessions, root) == []
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(replay_set(ledger, kept).receipt))
    with ledger.sessions() as s:
        found = verify_receipt(receipt, keys.key_file(s))
    assert found.holds
    assert [each["what"].split(":")[0] for each in found.deleted] == ["the replay set's key", "the replay set"]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("ended_at = now()", "key_until_end"),
        ("wrapped_key = NULL", "key_until_end"),
        ("deleted_at = now()", "deleted_after_end"),
        ("receipt = '{}'", "receipt_after_deletion"),
    ],
)
def test_a_replay_set_is_never_half_ended(ledger: Ledger, change: str, constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), ledger.sessions.begin() as s:
        s.execute(text(f"UPDATE replay_sets SET {change}"))


def test_an_operator_sees_replay_sets_with_their_clients_and_ends_one(
    ledger: Ledger, kept: UUID, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay set that nobody can forget would fail every rebuild."""
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: settings)

    def run(*typed: str) -> Result:
        return RUNNER.invoke(commands.app, ["replay-sets", *typed])

    told = run("list", "demo").output
    assert f"{kept}  " in told
    assert "5 pairs until " in told
    assert "still forgotten  checked in release 1" in told
    finished(ledger, job_id=ledger.submit(), still_forgotten={kept: False})
    assert "known again  checked in release 2" in run("list", "demo").output
    assert run("end", "another", str(kept), "--yes").exit_code == 1
    assert replay_set(ledger, kept).ended_at is None
    done = run("end", "demo", str(kept), "--yes")
    assert done.exit_code == 0, done.output
    assert replay_set(ledger, kept).wrapped_key is None
    assert "nothing is kept" in run("list", "demo").output
    assert run("end", "demo", str(kept), "--yes").exit_code == 1
