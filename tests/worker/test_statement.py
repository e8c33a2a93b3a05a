"""What a worker makes is signed, and its deletions are; without a key it makes nothing."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from jobs.signing.keys import create, key_file
from jobs.signing.receipt import receipt_of
from jobs.states import State
from jobs.storage.crypto import Keyring
from jobs.tables import Artifact
from tests.vgid_core.support.tiny import pair_set
from tests.waiting import eventually
from tests.worker.harness import FORGET_PICTURE, Ledger
from vgid_verify import proves_job, proves_set, verify_folder, verify_receipt

pytestmark = pytest.mark.slow


def test_a_job_ends_with_a_statement_and_a_receipt_that_hold(ledger: Ledger, start_worker, tmp_path: Path):
    start_worker()
    job_id = ledger.submit()
    job = ledger.until(job_id, State.succeeded)

    with ledger.sessions() as s:
        artifact, keys = s.get(Artifact, job_id), key_file(s)
    folder = tmp_path / "adapter"
    with zipfile.ZipFile(ledger.blobs.path_of_artifact(artifact.sha256)) as archive:
        archive.extractall(folder)
    report = verify_folder(folder, keys)
    assert (report.holds, report.passed, report.outcome) == (True, False, "no-verdict"), report.checks
    assert job.started_at < report.signed_at < job.finished_at
    assert {row["split"] for row in report.measured["after"]} == {"forget", "retain", "registered_retain", "utility"}
    salt = Keyring(ledger.settings.secret_key_bytes).statement_salt(job_id)
    forget = [(pair.image.data, pair.question, pair.answer) for pair in pair_set("forget", 4, FORGET_PICTURE)]
    assert proves_set(report, salt, "forget", forget)
    assert proves_job(report, salt, str(job_id))
    assert pair_set("forget", 4, FORGET_PICTURE).digest not in json.dumps(artifact.manifest)

    def receipt() -> dict | None:
        with ledger.sessions() as s:
            return receipt_of(s, job_id)

    (tmp_path / "receipt.json").write_text(json.dumps(eventually(receipt)))
    deletion = verify_receipt(tmp_path / "receipt.json", keys)
    assert (deletion.holds, deletion.job, deletion.state) == (True, str(job_id), "succeeded")


def test_a_worker_without_a_key_doesnt_start(ledger: Ledger, start_worker):
    shutil.rmtree(ledger.settings.signing_keys)
    worker = start_worker()
    assert worker.process.wait(timeout=60) != 0
    assert "can't sign what it makes: VGID_SIGNING_KEYS holds no valid key" in worker.log.read_text()


def test_a_key_that_goes_missing_costs_no_attempt(ledger: Ledger, start_worker):
    worker = start_worker(checkpoint_seconds=0)
    eventually(lambda: " ready." in worker.log.read_text())
    shutil.rmtree(ledger.settings.signing_keys)
    job_id = ledger.submit()
    eventually(lambda: "no job for 1 s: signing-key-missing" in worker.log.read_text(), seconds=60)
    with ledger.sessions.begin() as s:
        create(s, ledger.settings.signing_keys)
    assert ledger.until(job_id, State.succeeded).attempt == 1
