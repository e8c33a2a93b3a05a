"""Deletion receipts: signed once the uploads are gone, however they went, and never before."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs import claims, endings, repository
from jobs.queueing.queue import JobQueue
from jobs.reaping import reap
from jobs.settings import Settings
from jobs.signing import keys
from jobs.signing.keys import SigningKeyMissing, key_file
from jobs.signing.receipt import receipt_of, sign_receipts
from jobs.storage.blobs import FileBlobStore
from jobs.storage.input_cleanup import delete_inputs
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact
from vgid_verify import ReceiptReport, verify_receipt


@pytest.fixture
def root(settings: Settings, ledger: Ledger) -> Path:
    """The folder of signing keys, with a key in it."""
    assert settings.signing_keys is not None
    with ledger.sessions.begin() as s:
        keys.create(s, settings.signing_keys)
    return settings.signing_keys


def end(ledger: Ledger, blobs: FileBlobStore) -> UUID:
    """A job with uploads that has failed, and whose uploads are still there."""
    job_id = ledger.submit()
    blobs.put_inputs(job_id, b"sealed")
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        endings.fail(s, claim.token, "diverged", "The loss grew.")
    return job_id


def stored(ledger: Ledger, job_id: UUID) -> dict[str, Any] | None:
    with ledger.sessions() as s:
        return receipt_of(s, job_id)


def verified(ledger: Ledger, job_id: UUID, folder: Path) -> ReceiptReport:
    path = folder / "receipt.json"
    path.write_text(json.dumps(stored(ledger, job_id)))
    with ledger.sessions() as s:
        return verify_receipt(path, key_file(s))


def test_a_receipt_says_what_the_record_says(ledger: Ledger, blobs: FileBlobStore, root: Path, tmp_path: Path) -> None:
    job_id = end(ledger, blobs)
    assert sign_receipts(ledger.sessions, root) == []
    delete_inputs(ledger.sessions, blobs, job_id)
    assert sign_receipts(ledger.sessions, root) == [job_id]
    assert sign_receipts(ledger.sessions, root) == []
    job, report = ledger.job(job_id), verified(ledger, job_id, tmp_path)
    assert (report.holds, report.job, report.state) == (True, str(job_id), "failed")
    assert job.finished_at is not None
    assert job.inputs_deleted_at is not None
    assert [item["at"] for item in report.deleted] == [job.finished_at.isoformat(), job.inputs_deleted_at.isoformat()]
    assert len(report.remains) == 1


def test_an_adapter_that_stays_is_named(ledger: Ledger, blobs: FileBlobStore, root: Path, tmp_path: Path) -> None:
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        endings.finish(s, job_id, claim.token, new_artifact(s, job_id))
    delete_inputs(ledger.sessions, blobs, job_id)
    assert sign_receipts(ledger.sessions, root) == [job_id]
    report = verified(ledger, job_id, tmp_path)
    assert report.state == "succeeded"
    assert any("adapter" in text for text in report.remains)


def test_the_reapers_deletions_are_signed_too(
    ledger: Ledger, blobs: FileBlobStore, root: Path, settings: Settings, queue: JobQueue, tmp_path: Path
) -> None:
    job_id = end(ledger, blobs)
    assert reap(ledger.sessions, blobs, settings, queue).inputs_deleted == [job_id]
    assert sign_receipts(ledger.sessions, root) == [job_id]
    assert verified(ledger, job_id, tmp_path).holds


def test_uploads_that_cant_be_deleted_have_no_receipt(
    ledger: Ledger,
    blobs: FileBlobStore,
    root: Path,
    settings: Settings,
    queue: JobQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = end(ledger, blobs)

    def refuse(_job_id: UUID) -> None:
        raise OSError(os.strerror(5))

    with monkeypatch.context() as disk:
        disk.setattr(blobs, "delete_inputs", refuse)
        assert reap(ledger.sessions, blobs, settings, queue).undeletable == [job_id]
    assert sign_receipts(ledger.sessions, root) == []
    assert stored(ledger, job_id) is None


def test_a_job_that_is_cancelled_while_it_waits_gets_one(
    ledger: Ledger, blobs: FileBlobStore, root: Path, tmp_path: Path
) -> None:
    """The API deletes its uploads and has no key: a worker signs later."""
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
    delete_inputs(ledger.sessions, blobs, job_id)
    assert sign_receipts(ledger.sessions, root) == [job_id]
    assert verified(ledger, job_id, tmp_path).state == "cancelled"


def test_several_workers_sign_each_once(ledger: Ledger, blobs: FileBlobStore, root: Path) -> None:
    jobs = [end(ledger, blobs) for _ in range(6)]
    for job_id in jobs:
        delete_inputs(ledger.sessions, blobs, job_id)
    with ThreadPoolExecutor(3) as workers:
        signed = list(workers.map(lambda _: sign_receipts(ledger.sessions, root), range(3)))
    assert sorted(job_id for each in signed for job_id in each) == sorted(jobs)


def test_without_a_key_a_due_receipt_waits(ledger: Ledger, blobs: FileBlobStore, tmp_path: Path) -> None:
    assert sign_receipts(ledger.sessions, tmp_path / "no-keys") == []
    delete_inputs(ledger.sessions, blobs, end(ledger, blobs))
    with pytest.raises(SigningKeyMissing):
        sign_receipts(ledger.sessions, tmp_path / "no-keys")


def test_a_changed_receipt_doesnt_hold(ledger: Ledger, blobs: FileBlobStore, root: Path, tmp_path: Path) -> None:
    job_id = end(ledger, blobs)
    delete_inputs(ledger.sessions, blobs, job_id)
    sign_receipts(ledger.sessions, root)
    envelope = stored(ledger, job_id)
    assert envelope is not None
    with ledger.sessions() as s:
        known = key_file(s)
    for text in (json.dumps(envelope).replace('"payload": "ey', '"payload": "eY'), "{}", "", '{"payload": 3}'):
        (tmp_path / "changed.json").write_text(text)
        report = verify_receipt(tmp_path / "changed.json", known)
        assert not report.holds
        assert report.deleted == ()
