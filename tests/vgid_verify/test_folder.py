"""A signed folder holds as it is, and nothing of it can be changed, taken away or added unnoticed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from securesystemslib.signer import CryptoSigner

from tests.signing_keys import DAY, NOW, Key
from tests.vgid_verify.signed import EVIDENCE, FORGET, JOB, SALT, missed, signed_folder
from vgid_core.data.pairs import PairSet
from vgid_verify import KeyFile, Report, keyed_digest, pairs_digest, proves_job, proves_set, verify_folder
from vgid_verify.names import BUNDLE, FOLDER_SIGNATURE, PROVENANCE, TEST_RESULT, VERIFICATION_RESULT
from vgid_verify.proof import read_pairs

NAMES = ["adapter_config.json", "adapter_model.safetensors", "evidence.json", "manifest.json", BUNDLE, FOLDER_SIGNATURE]


def statements(folder: Path) -> dict[str, dict[str, Any]]:
    """The statements of the bundle by predicate type, unchecked."""
    envelopes = [json.loads(line) for line in (folder / BUNDLE).read_text().splitlines()]
    found = [json.loads(base64.b64decode(envelope["payload"])) for envelope in envelopes]
    return {one["predicateType"]: one for one in found}


def faults(report: Report) -> str:
    assert not report.holds
    assert not report.passed
    assert report.outcome == "unverified"
    return "\n".join(check.detail for check in report.checks if not check.held)


def test_an_untouched_folder_holds(folder: Path, key: Key) -> None:
    report = verify_folder(folder, key.file)
    assert [check.name for check in report.checks if check.held] == ["statements", "files", "folder signature"]
    assert (report.holds, report.passed, report.outcome) == (True, True, "forgotten")
    assert (report.keyid, report.signed_at, report.evidence) == (key.public.keyid, NOW, EVIDENCE)
    assert report.limits == ("Measured in 32 bits.",)


def test_it_holds_under_another_name(folder: Path, key: Key) -> None:
    assert verify_folder(folder.rename(folder.with_name("downloaded")), key.file).passed


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_is_named(folder: Path, key: Key, name: str) -> None:
    """The first, the middle and the last byte of each file, the signatures' own included."""
    path = folder / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole.rstrip()) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert name in faults(verify_folder(folder, key.file)), place
    path.write_bytes(whole)
    assert verify_folder(folder, key.file).passed


def test_not_even_a_byte_that_means_nothing_can_be_changed(folder: Path, key: Key) -> None:
    """A space after the folder's signature, and a bit of its base64 that no byte is made of."""
    path = folder / FOLDER_SIGNATURE
    whole = path.read_text()
    path.write_text(whole + "\n")
    assert FOLDER_SIGNATURE in faults(verify_folder(folder, key.file))
    envelope = json.loads(whole)["dsseEnvelope"]
    for encoded in (envelope["payload"], envelope["signatures"][0]["sig"]):
        data = base64.b64decode(encoded)
        same = [encoded[:place] + letter + encoded[place + 1 :] for place, letter in slack(encoded)]
        assert all(base64.b64decode(each) == data for each in same)
        for each in same:
            path.write_text(whole.replace(encoded, each))
            assert FOLDER_SIGNATURE in faults(verify_folder(folder, key.file))


def slack(encoded: str) -> list[tuple[int, str]]:
    """Where base64 can hold another letter for the same bytes, and one such letter."""
    place = len(encoded.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return [(place, alphabet[alphabet.index(encoded[place]) ^ 1])] if encoded.endswith("=") else []


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_file_is_named(folder: Path, key: Key, name: str) -> None:
    (folder / name).unlink()
    assert f"{name} is missing" in faults(verify_folder(folder, key.file))


@pytest.mark.parametrize("name", ["pytorch_model.bin", ".gitignore", ".git/config", "deep/er/file", "statement.tsr"])
def test_an_added_file_is_named(folder: Path, key: Key, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    assert name in faults(verify_folder(folder, key.file))


def test_a_link_is_no_file(folder: Path, key: Key, tmp_path: Path) -> None:
    elsewhere = (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(elsewhere)
    assert "manifest.json isn't a plain file" in faults(verify_folder(folder, key.file))


def test_a_verdict_that_is_rewritten_is_noticed(tmp_path: Path, key: Key) -> None:
    folder = signed_folder(tmp_path / "failed", key, missed())
    lines = []
    for line in (folder / BUNDLE).read_text().splitlines():
        envelope = json.loads(line)
        payload = base64.b64decode(envelope["payload"]).replace(b'"FAILED"', b'"PASSED"')
        lines.append(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))
    (folder / BUNDLE).write_text("\n".join(lines))
    assert "doesn't belong to the payload" in faults(verify_folder(folder, key.file))


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:2],
        lambda lines: [*lines, lines[0]],
        lambda _lines: [],
        lambda _lines: ["null"],
        lambda _lines: ['{"payload": "", "payloadType": "x", "signatures": []}'],
    ],
    ids=["left out", "twice", "empty", "null", "unsigned"],
)
def test_the_bundle_is_whole(folder: Path, key: Key, change: Callable[[list[str]], list[str]]) -> None:
    (folder / BUNDLE).write_text("\n".join(change((folder / BUNDLE).read_text().splitlines())))
    assert BUNDLE in faults(verify_folder(folder, key.file))


def test_statements_of_two_folders_dont_mix(folder: Path, key: Key, tmp_path: Path) -> None:
    later = signed_folder(tmp_path / "other", key, missed(), signed_at=NOW + DAY)
    mixed = [(folder / BUNDLE).read_text().splitlines()[0], *(later / BUNDLE).read_text().splitlines()[1:]]
    (folder / BUNDLE).write_text("\n".join(mixed))
    assert "different signings" in faults(verify_folder(folder, key.file))


def test_an_unknown_key_is_refused(folder: Path, key: Key, tmp_path: Path) -> None:
    other = Key.make(tmp_path)
    said = faults(verify_folder(folder, other.file))
    assert f"signed by key {key.public.keyid[:16]}, which isn't in the key file" in said
    assert other.public.keyid[:16] in said
    both = KeyFile(keys=(other.public, key.public))
    assert verify_folder(folder, both).passed


def test_a_key_that_takes_anothers_id_is_refused(folder: Path, key: Key, tmp_path: Path) -> None:
    other = Key.make(tmp_path).public
    posing = KeyFile(keys=(other.model_copy(update={"keyid": key.public.keyid}),))
    assert "gives another key the id" in faults(verify_folder(folder, posing))
    forged = signed_folder(tmp_path / "forged", forger := _posing(tmp_path, key))
    trusted = KeyFile(keys=(forger.public.model_copy(update={"keyid": key.public.keyid}),))
    assert "gives another key the id" in faults(verify_folder(forged, trusted))
    half = KeyFile(keys=(key.public.model_copy(update={"folders": other.folders}),))
    assert "isn't the one that the statements name" in faults(verify_folder(folder, half))


def test_a_retired_key_counts_for_what_it_signed_before(folder: Path, key: Key) -> None:
    retired = KeyFile(keys=(key.public.model_copy(update={"valid_until": NOW + DAY}),))
    report = verify_folder(folder, retired)
    assert report.passed
    assert "retired at 2031-05-02 12:00:00 UTC; it signed this before" in report.checks[0].detail


@pytest.mark.parametrize(
    ("times", "complaint"),
    [
        ({"valid_until": NOW - DAY / 2}, "was retired at 2031-05-01 00:00:00 UTC, and this was signed later"),
        ({"valid_from": NOW + DAY}, "is valid from 2031-05-02 12:00:00 UTC, and this was signed before"),
        ({"revoked_at": NOW + DAY}, "was revoked at 2031-05-02 12:00:00 UTC: nothing that it signed counts"),
    ],
)
def test_a_key_out_of_its_time_is_refused(folder: Path, key: Key, times: dict[str, Any], complaint: str) -> None:
    out = KeyFile(keys=(key.public.model_copy(update=times),))
    assert complaint in faults(verify_folder(folder, out))


def test_a_missed_target_holds_and_isnt_passed(tmp_path: Path, key: Key) -> None:
    folder = signed_folder(tmp_path / "failed", key, missed())
    report = verify_folder(folder, key.file)
    assert (report.holds, report.passed, report.outcome) == (True, False, "targets-not-met")
    said = statements(folder)
    assert said[TEST_RESULT]["predicate"]["failedTests"] == ["extraction.strength on forget"]
    assert said[VERIFICATION_RESULT]["predicate"]["properties"] == []


def test_a_run_without_a_verdict_isnt_passed(tmp_path: Path, key: Key) -> None:
    folder = signed_folder(tmp_path / "unjudged", key, None)
    report = verify_folder(folder, key.file)
    assert (report.holds, report.passed, report.outcome) == (True, False, "no-verdict")
    predicate = statements(folder)[TEST_RESULT]["predicate"]
    assert (predicate["result"], predicate["failedTests"]) == ("FAILED", ["verdict-reached"])


def test_predicates_are_what_their_standards_define(folder: Path) -> None:
    """The library's own messages read them; fields of ours, which the standards allow, carry our prefix."""
    said = statements(folder)
    result = json_format.ParseDict(
        said[TEST_RESULT]["predicate"], test_result_pb2.TestResult(), ignore_unknown_fields=True
    )
    assert (result.result, list(result.passed_tests)) == ("PASSED", ["extraction.strength on forget"])
    assert list(result.warned_tests) == ["neighbours"]
    made = json_format.ParseDict(said[PROVENANCE]["predicate"], Provenance(), ignore_unknown_fields=True)
    assert made.build_definition.build_type == "urn:vgid:unlearn:1"
    assert made.run_details.builder.version["vgid"] == "0.1.0"
    base, *sets = made.build_definition.resolved_dependencies
    assert (base.name, dict(base.digest)) == ("org/model", {"vgid-base": "ab" * 32})
    assert [one.name for one in sets] == ["set:forget", "set:retain"]
    assert said[VERIFICATION_RESULT]["predicate"]["properties"] == ["VGID_TARGETS_HELD", "VGID_LEVEL_STANDARD"]


def test_the_salt_proves_what_a_guess_doesnt(folder: Path, key: Key) -> None:
    report = verify_folder(folder, key.file)
    pairs = [(pair.image.data, pair.question, pair.answer) for pair in FORGET]
    assert proves_set(report, SALT, "forget", pairs)
    assert proves_job(report, SALT, str(JOB))
    for salt in (bytes(32), b""):
        assert not proves_set(report, salt, "forget", pairs)
        assert not proves_job(report, salt, str(JOB))
    assert not proves_set(report, SALT, "forget", pairs[1:])
    assert not proves_set(report, SALT, "retain", pairs)
    assert not proves_set(report, SALT, "unknown", pairs)
    assert not proves_job(report, SALT, "another")


def test_a_set_that_names_people_and_facts_has_the_digest_of_its_file(tmp_path: Path) -> None:
    ada, told, nameless, plain = FORGET
    named = [replace(ada, person="Ada"), replace(told, fact=told.answer), replace(nameless, person=""), plain]
    pairs = PairSet.of("forget", named)
    pairs.write_jsonl(tmp_path / "forget.jsonl")
    assert pairs_digest(read_pairs(tmp_path / "forget.jsonl")) == pairs.digest != FORGET.digest


def test_nothing_published_lets_anybody_test_a_guess(folder: Path) -> None:
    """No plain digest of any set, no id of the job, no salt is in any byte of the folder."""
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    everything += "".join(json.dumps(one) for one in statements(folder).values()).encode()
    for secret in (FORGET.digest, "cd" * 32, str(JOB), JOB.hex, SALT.hex()):
        assert secret.encode() not in everything
    assert keyed_digest(SALT, "set/forget", FORGET.digest).encode() in everything


def test_model_signings_own_command_checks_the_folder(folder: Path, key: Key, tmp_path: Path) -> None:
    """Whoever trusts no code of ours can do without it."""
    public = tmp_path / "folders.pem"
    public.write_text(key.public.folders.keyval["public"])
    command = [
        sys.executable, "-m", "model_signing", "verify", "key", str(folder),
        "--signature", str(folder / FOLDER_SIGNATURE), "--public_key", str(public),
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    (folder / "adapter_config.json").write_text("{}")
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0


def _posing(folder: Path, key: Key) -> Key:
    """A forger's own keys under the id of `key`."""
    (forged := folder / "forger").mkdir()
    other = Key.make(forged)
    signer = CryptoSigner(load_pem_private_key(other.private.statements.private_bytes, None))
    signer.public_key.keyid = key.public.keyid
    return Key(replace(other.private, keyid=key.public.keyid, statements=signer), other.public)
