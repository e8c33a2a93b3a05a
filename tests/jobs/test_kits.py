"""Kits: what is kept of a job, until its client or its retention ends that; then a receipt says so."""

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

from jobs.lines import commands, kits
from jobs.lines.releases import NewKit
from jobs.settings import Settings
from jobs.signing import keys
from jobs.signing.receipt import sign_receipts
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.tables import Kit
from tests.jobs.conftest import Ledger
from tests.jobs.test_releases import finished
from vgid_verify import verify_receipt

RUNNER = CliRunner()
DAY = timedelta(days=1)


@pytest.fixture
def kept(ledger: Ledger, blobs: FileBlobStore) -> UUID:
    """A job of which a kit is kept."""
    job_id = ledger.submit()
    blobs.put_kit(job_id, b"sealed")
    return finished(ledger, job_id=job_id, kit=NewKit(b"wrapped", 5, 30))


def kit(ledger: Ledger, job_id: UUID) -> Kit:
    with ledger.sessions() as s:
        return s.get_one(Kit, job_id)


def age(settings: Settings, job_id: UUID) -> None:
    hours_ago = (datetime.now(UTC) - DAY).timestamp()
    os.utime(settings.blob_dir / "kits" / f"{job_id}.bin", (hours_ago, hours_ago))


def test_ending_a_kit_destroys_its_key_before_its_file(ledger: Ledger, blobs: FileBlobStore, kept: UUID) -> None:
    assert blobs.read_kit(kept) == b"sealed"
    with ledger.sessions.begin() as s:
        assert kits.end_kit(s, kept)
    assert (kit(ledger, kept).wrapped_key, kit(ledger, kept).deleted_at) == (None, None)
    kits.delete_kit_file(ledger.sessions, blobs, kept)
    with pytest.raises(BlobMissing):
        blobs.read_kit(kept)
    gone = kit(ledger, kept).deleted_at
    kits.delete_kit_file(ledger.sessions, blobs, kept)
    assert kit(ledger, kept).deleted_at == gone is not None
    with ledger.sessions.begin() as s:
        assert not kits.end_kit(s, kept)


def test_the_reaper_ends_what_is_over_and_finishes_what_a_crash_has_left(
    ledger: Ledger, blobs: FileBlobStore, kept: UUID
) -> None:
    other = ledger.submit()
    blobs.put_kit(other, b"sealed")
    finished(ledger, job_id=other, kit=NewKit(b"wrapped", 5, 30))
    with ledger.sessions.begin() as s:
        s.execute(text("UPDATE kits SET expires_at = now() WHERE job_id = :id"), {"id": kept})
    assert kits.reap_kits(ledger.sessions, blobs) == [kept]
    assert kit(ledger, kept).deleted_at is not None
    assert kits.reap_kits(ledger.sessions, blobs) == []
    with ledger.sessions.begin() as s:
        kits.end_kit(s, other)
    assert kits.reap_kits(ledger.sessions, blobs) == [other]


def test_a_file_that_no_kit_names_is_deleted_once_it_is_old(
    ledger: Ledger, blobs: FileBlobStore, settings: Settings, kept: UUID
) -> None:
    blobs.put_kit(orphan := uuid4(), b"sealed")
    assert kits.reap_kits(ledger.sessions, blobs) == []
    age(settings, orphan)
    age(settings, kept)
    assert kits.reap_kits(ledger.sessions, blobs) == [orphan]
    assert blobs.read_kit(kept) == b"sealed"


def test_a_receipt_says_that_it_was_kept_and_is_gone(
    ledger: Ledger, blobs: FileBlobStore, kept: UUID, tmp_path: Path
) -> None:
    root = tmp_path / "keys"
    with ledger.sessions.begin() as s:
        keys.create(s, root)
    assert sign_receipts(ledger.sessions, root) == []
    with ledger.sessions.begin() as s:
        kits.end_kit(s, kept)
    kits.delete_kit_file(ledger.sessions, blobs, kept)
    assert sign_receipts(ledger.sessions, root) == [kept]
    assert sign_receipts(ledger.sessions, root) == []
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(kit(ledger, kept).receipt))
    with ledger.sessions() as s:
        found = verify_receipt(receipt, keys.key_file(s))
    assert found.holds
    assert [each["what"].split(":")[0] for each in found.deleted] == ["the kit's key", "the kit"]


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
def test_a_kit_is_never_half_ended(ledger: Ledger, change: str, constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), ledger.sessions.begin() as s:
        s.execute(text(f"UPDATE kits SET {change}"))


def test_an_operator_sees_kits_with_their_clients_and_ends_one(
    ledger: Ledger, kept: UUID, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kit that nobody can forget would fail every rebuild."""
    monkeypatch.setattr("jobs.command_session.get_settings", lambda: settings)

    def run(*typed: str) -> Result:
        return RUNNER.invoke(commands.app, ["kits", *typed])

    told = run("list", "demo").output
    assert f"{kept}  " in told
    assert "5 pairs until " in told
    assert "still forgotten  checked in release 1" in told
    finished(ledger, job_id=ledger.submit(), still_forgotten={kept: False})
    assert "known again  checked in release 2" in run("list", "demo").output
    assert run("end", "another", str(kept), "--yes").exit_code == 1
    assert kit(ledger, kept).ended_at is None
    done = run("end", "demo", str(kept), "--yes")
    assert done.exit_code == 0, done.output
    assert kit(ledger, kept).wrapped_key is None
    assert "nothing is kept" in run("list", "demo").output
    assert run("end", "demo", str(kept), "--yes").exit_code == 1
