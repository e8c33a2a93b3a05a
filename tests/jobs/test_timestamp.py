"""Statements are dated by somebody else where the operator names an authority, and made without one where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from jobs.signing.timestamp import read_roots, stamp
from tests.signing_keys import NOW, Key
from tests.timestamp_authority import Authority, serving
from tests.vgid_verify.signed import signed_folder
from vgid_verify import KeyFile, KeyFileError, Report, verify_folder
from vgid_verify.names import BUNDLE, TIMESTAMP


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key.make(tmp_path)


def request_for(data: bytes) -> bytes:
    return TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build().as_bytes()


def dated(folder: Path, key: Key, authority: Authority) -> Path:
    with serving(authority) as url:
        return signed_folder(folder, key, stamp=lambda data: stamp(url, data))


def checked(folder: Path, key: Key, authority: Authority) -> Report:
    roots = read_roots(authority.write_root(folder.with_name("root.pem")))
    return verify_folder(folder, KeyFile(keys=(key.public,), timestamp_roots=roots))


def test_a_stamped_statement_says_when_it_existed(tmp_path: Path, key: Key) -> None:
    authority = Authority.make(NOW)
    report = checked(dated(tmp_path / "adapter", key, authority), key, authority)
    assert (report.passed, report.stamped_at) == (True, NOW)
    assert not any("times are right" in text for text in report.not_shown)


def test_a_stamp_of_other_statements_or_another_authority_doesnt_hold(tmp_path: Path, key: Key) -> None:
    authority = Authority.make(NOW)
    folder = dated(tmp_path / "adapter", key, authority)
    assert not checked(folder, key, Authority.make(NOW)).holds
    (folder / TIMESTAMP).write_bytes(authority.answer(request_for(b"other statements")))
    faults = [check.detail for check in checked(folder, key, authority).checks if not check.held]
    assert f"{TIMESTAMP} isn't of these statements" in faults


def test_a_stamp_that_nobody_can_check_is_no_fault_and_dates_nothing(tmp_path: Path, key: Key) -> None:
    report = verify_folder(dated(tmp_path / "adapter", key, Authority.make(NOW)), key.file)
    assert (report.passed, report.stamped_at) == (True, None)
    assert any("times are right" in text for text in report.not_shown)


def test_a_root_that_is_no_certificate_is_the_key_files_fault(tmp_path: Path, key: Key) -> None:
    folder = dated(tmp_path / "adapter", key, Authority.make(NOW))
    with pytest.raises(KeyFileError, match="timestamp_roots"):
        verify_folder(folder, KeyFile(keys=(key.public,), timestamp_roots=("no certificate",)))


def test_an_authority_that_fails_costs_the_stamp_alone(tmp_path: Path, key: Key) -> None:
    with serving(Authority.make(NOW), status=500) as url:
        folder = signed_folder(tmp_path / "adapter", key, stamp=lambda data: stamp(url, data))
    assert (folder / BUNDLE).exists()
    assert not (folder / TIMESTAMP).exists()
    assert verify_folder(folder, key.file).passed
