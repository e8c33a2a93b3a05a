"""A public key in PEM checks one statement, as a service's key file does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.signing_keys import NOW, Key
from tests.vgid_verify.signed import sha256
from vgid_verify.keys import KeyFile, PemKey, load_keys
from vgid_verify.names import DELETION_RECEIPT, SIGNED_AT
from vgid_verify.receipt import verify_receipt
from vgid_verify.signing import sign_statement


@pytest.fixture
def receipt(key: Key, tmp_path: Path) -> Path:
    subject = "urn:uuid:1"
    said: dict[str, Any] = {"job": "1", "state": "succeeded", "deleted": [], "remains": [], SIGNED_AT: NOW.isoformat()}
    path = tmp_path / "receipt.json"
    envelope = sign_statement({subject: sha256(subject.encode())}, DELETION_RECEIPT, said, key.private.statements)
    path.write_text(json.dumps(envelope))
    return path


def test_it_has_the_id_that_the_key_file_says(key: Key, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"\n" + key.pem)
    (tmp_path / "keys.json").write_text(key.file.model_dump_json())
    loaded = load_keys(tmp_path / "key.pem")
    assert isinstance(loaded, PemKey)
    assert (loaded.keyid, loaded.statements) == (key.public.keyid, key.public.statements)
    assert isinstance(load_keys(tmp_path / "keys.json"), KeyFile)


def test_it_checks_a_receipt_and_says_that_it_knows_no_times(key: Key, receipt: Path) -> None:
    report = verify_receipt(receipt, PemKey.of(key.pem))
    assert report.holds
    assert "of which a PEM says no times" in report.checks[0].detail


def test_another_key_is_refused_by_both_ids(key: Key, receipt: Path, tmp_path: Path) -> None:
    other = Key.make(tmp_path)
    report = verify_receipt(receipt, PemKey.of(other.pem))
    assert not report.holds
    said = report.checks[0].detail
    assert said == f"it is signed by key {key.public.keyid[:16]}, and the PEM holds key {other.public.keyid[:16]}"
