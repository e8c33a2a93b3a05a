"""Receipts, salts and public keys over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.signing import keys
from jobs.storage.crypto import Keyring
from tests.api.service import Service, problem
from tests.evidence import FORGOTTEN
from vgid_verify import KeyFile, verify_receipt

KEYS = "/.well-known/vgid-keys.json"


def test_a_receipt_comes_after_the_deletion_and_not_before(service: Service, tmp_path: Path) -> None:
    job_id = service.submit()
    path = f"/unlearn-jobs/{job_id}/receipt"
    service.fail(job_id, service.claim(job_id))
    refused = service.http.get(path)
    assert "aren't deleted yet" in problem(refused, 409, "receipt-unavailable")["detail"]
    assert refused.headers["retry-after"] == "5"
    service.delete_inputs(job_id)
    assert "isn't signed yet" in problem(service.http.get(path), 409, "receipt-unavailable")["detail"]
    assert service.sign_receipts() == [job_id]

    answer = service.http.get(path)
    assert answer.status_code == 200
    (tmp_path / "receipt.json").write_bytes(answer.content)
    report = verify_receipt(tmp_path / "receipt.json", KeyFile.model_validate_json(service.http.get(KEYS).content))
    assert (report.holds, report.job, report.state) == (True, str(job_id), "failed")
    assert service.http.get(f"/unlearn-jobs/{job_id}").json()["links"]["receipt"] == path


def test_a_job_that_is_cancelled_while_it_waits_gets_a_receipt(service: Service) -> None:
    job_id = service.submit()
    service.http.post(f"/unlearn-jobs/{job_id}/cancel")
    assert service.sign_receipts() == [job_id]
    assert service.http.get(f"/unlearn-jobs/{job_id}/receipt").status_code == 200


def test_an_evaluation_gets_a_receipt_as_a_job_does(service: Service, tmp_path: Path) -> None:
    job_id = service.measured(FORGOTTEN)
    path = f"/evaluations/{job_id}/receipt"
    problem(service.http.get(path), 409, "receipt-unavailable")
    service.delete_inputs(job_id)
    assert service.sign_receipts() == [job_id]
    (tmp_path / "receipt.json").write_bytes(service.http.get(path).content)
    report = verify_receipt(tmp_path / "receipt.json", KeyFile.model_validate_json(service.http.get(KEYS).content))
    assert (report.holds, report.job, report.state) == (True, str(job_id), "succeeded")
    assert service.http.get(f"/evaluations/{job_id}").json()["links"]["receipt"] == path
    problem(service.http.get(f"/unlearn-jobs/{job_id}/receipt"), 404, "not-found")


def test_nobody_else_gets_a_receipt(service: Service) -> None:
    job_id = service.submit()
    service.http.post(f"/unlearn-jobs/{job_id}/cancel")
    service.sign_receipts()
    problem(service.as_client("another").get(f"/unlearn-jobs/{job_id}/receipt"), 404, "not-found")
    problem(service.open().get(f"/unlearn-jobs/{job_id}/receipt"), 401, "unauthenticated")


def test_the_client_alone_is_told_the_salt(service: Service, tmp_path: Path) -> None:
    job_id, archive = service.succeeded(tmp_path)
    salt = Keyring(service.settings.secret_key_bytes).statement_salt(job_id).hex()
    assert service.http.get(f"/unlearn-jobs/{job_id}").json()["statement_salt"] == salt
    assert salt not in service.http.get("/unlearn-jobs").text
    assert salt not in json.dumps(service.http.get(f"/unlearn-jobs/{job_id}/events").text)
    assert bytes.fromhex(salt) not in archive
    problem(service.as_client("another").get(f"/unlearn-jobs/{job_id}"), 404, "not-found")


def test_a_job_without_an_artifact_has_no_salt(service: Service) -> None:
    assert service.http.get(f"/unlearn-jobs/{service.submit()}").json()["statement_salt"] is None


def test_public_keys_are_open_to_all_and_hold_old_ones(service: Service) -> None:
    root = service.settings.signing_keys
    assert root is not None
    anybody = service.open()
    assert anybody.get(KEYS).json() == {"format": "vgid-keys/1", "keys": [], "timestamp_roots": []}
    with service.sessions.begin() as s:
        old, new = keys.create(s, root).id, keys.create(s, root).id
        keys.retire(s, old)
    answer = anybody.get(KEYS)
    assert answer.headers["cache-control"] == "public, max-age=300"
    found = KeyFile.model_validate_json(answer.content)
    assert {key.keyid: key.valid_until is None for key in found.keys} == {old: False, new: True}
    assert "PRIVATE" not in answer.text
