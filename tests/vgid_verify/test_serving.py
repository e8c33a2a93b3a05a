"""The signed check of a server holds as it is, says what it found, and lets nobody test a guess."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from typer.testing import CliRunner, Result

from tests.signing_keys import NOW, Key
from tests.vgid_core.support.tiny import pair_set
from tests.vgid_verify.signed import FORGET, sha256
from vgid_core.cli.serving_statement import StatementWriter
from vgid_core.data.pairs import PairSet
from vgid_verify import KeyFile, verify_receipt, verify_serving_check
from vgid_verify.command import verify
from vgid_verify.keys import PemKey
from vgid_verify.names import SERVING_CHECK, SIGNED_AT, TEST_RESULT
from vgid_verify.signing import sign_statement

OTHERS = pair_set("others", 3, first_picture=20)
CHECK: dict[str, Any] = {
    "format": "vgid-serving-check/1",
    "verdict": "arrives",
    "checked_at": NOW.isoformat(),
    "endpoint": "https://models.example.org/eu",
    "adapter": {"name": "vgid-demo-e88e5760ac38", "sha256": None},
    "base": "demo",
    "pairs": {"digest": FORGET.digest, "pairs": 4},
    "control": {"digest": OTHERS.digest, "pairs": 3},
    "figures": {"adapter": {"asked": 4, "answered": 4, "told": 0, "rouge_l": 0.126}},
    "findings": [
        {"kind": "adapter", "level": "ok", "message": "0 of 4 facts are told", "advice": ""},
        {"kind": "steady", "level": "warning", "message": "half differ", "advice": "ask each"},
        {"kind": "reload", "level": "untested", "message": "not asked", "advice": ""},
    ],
    "versions": {"vgid": "0.1.0"},
    "not_shown": "The answers of one moment.",
}
FAULT = {"kind": "base", "level": "fault", "message": "by the base's name: 4 of 4", "advice": "close it"}


def signed(path: Path, key: Key, **changes: Any) -> tuple[Path, str]:
    """A statement's file, and its salt."""
    return path, StatementWriter(key.private.statements, path).write(CHECK | changes)


@pytest.fixture
def statement(tmp_path: Path, key: Key) -> tuple[Path, str]:
    return signed(tmp_path / "check.intoto.json", key)


@pytest.fixture
def pem(tmp_path: Path, key: Key) -> Path:
    path = tmp_path / "checker.pem"
    path.write_bytes(key.pem)
    return path


def payload(path: Path) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(json.loads(path.read_text())["payload"])))


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(verify)
    return CliRunner().invoke(app, list(map(str, arguments)), env={"VGID_KEYS": ""})


def complaint(path: Path, key: Key) -> str:
    report = verify_serving_check(path, PemKey.of(key.pem))
    assert (report.holds, report.passed, report.check) == (False, False, None)
    return report.checks[0].detail


def test_it_holds_by_a_pem_and_by_a_key_file(statement: tuple[Path, str], key: Key) -> None:
    always = key.public.model_copy(update={"valid_from": NOW.replace(year=2000)})
    for keys in (PemKey.of(key.pem), KeyFile(keys=(always,))):
        report = verify_serving_check(statement[0], keys)
        assert (report.holds, report.passed, report.keyid) == (True, True, key.public.keyid)
        assert report.check is not None
        assert report.check.figures["adapter"].rouge_l == 0.126


def test_it_is_a_test_result(statement: tuple[Path, str], tmp_path: Path, key: Key) -> None:
    """The standard's own message reads it; fields of ours, which it allows, carry our prefix."""
    said = payload(statement[0])
    served = "urn:vgid:served:https%3A%2F%2Fmodels.example.org%2Feu:vgid-demo-e88e5760ac38"
    assert said["subject"] == [{"name": served, "digest": {"sha256": sha256(served.encode())}}]
    result = json_format.ParseDict(said["predicate"], test_result_pb2.TestResult(), ignore_unknown_fields=True)
    assert (result.result, list(result.passed_tests)) == ("PASSED", ["adapter"])
    assert (list(result.warned_tests), list(result.failed_tests)) == (["steady", "reload"], [])
    assert [one.name for one in result.configuration] == ["set:pairs", "set:control"]
    for verdict, said_as in (("does-not-arrive", "FAILED"), ("inconclusive", "FAILED")):
        path, _ = signed(tmp_path / verdict, key, verdict=verdict, findings=[FAULT])
        assert (payload(path)["predicate"]["result"], payload(path)["predicate"]["failedTests"]) == (said_as, ["base"])


def test_where_the_adapters_files_are_at_hand_they_are_the_subject(tmp_path: Path, key: Key) -> None:
    path, _ = signed(tmp_path / "check", key, adapter={"name": "new", "sha256": "ab" * 32})
    assert payload(path)["subject"] == [{"name": "adapter_model.safetensors", "digest": {"sha256": "ab" * 32}}]
    assert verify_serving_check(path, PemKey.of(key.pem)).passed


def test_every_changed_byte_of_what_is_signed_is_named(statement: tuple[Path, str], key: Key, pem: Path) -> None:
    envelope = json.loads(statement[0].read_text())
    said = base64.b64decode(envelope["payload"])
    for place in range(0, len(said), 7):
        changed = said[:place] + bytes([said[place] ^ 1]) + said[place + 1 :]
        statement[0].write_text(json.dumps(envelope | {"payload": base64.b64encode(changed).decode()}))
        assert complaint(statement[0], key) == "the signature doesn't belong to the payload: one of them was changed"
        done = run(statement[0], "--keys", pem)
        assert (done.exit_code, "WRONG  statement: the signature doesn't" in done.stdout) == (5, True)
        assert "0.126" not in done.stdout


def test_a_damaged_file_is_none(statement: tuple[Path, str], key: Key) -> None:
    for text in ("", "null", "{}", '{"payload": 3}', statement[0].read_text()[:-40]):
        statement[0].write_text(text)
        assert complaint(statement[0], key) == "this is no DSSE envelope"


def test_another_key_is_refused(statement: tuple[Path, str], key: Key, tmp_path: Path) -> None:
    assert "the PEM holds key" in complaint(statement[0], Key.make(tmp_path))
    posing = PemKey.of(Key.make(tmp_path).pem).model_copy(update={"keyid": key.public.keyid})
    assert not verify_serving_check(statement[0], posing).holds


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda predicate: predicate | {"result": "FAILED"}, "its result isn't that of its verdict"),
        (lambda predicate: _with(predicate, endpoint="https://else.example.org"), "its subject isn't the adapter"),
        (lambda predicate: _with(predicate, verdict="perhaps"), "can't be read (at 'verdict')"),
        (lambda predicate: {"result": "PASSED", SIGNED_AT: predicate[SIGNED_AT]}, "but no check of a server"),
    ],
)
def test_a_statement_that_contradicts_itself_is_refused(
    statement: tuple[Path, str], key: Key, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    before = payload(statement[0])
    subjects = {one["name"]: one["digest"]["sha256"] for one in before["subject"]}
    envelope = sign_statement(subjects, TEST_RESULT, change(before["predicate"]), key.private.statements)
    statement[0].write_text(json.dumps(envelope))
    assert said in complaint(statement[0], key)


def _with(predicate: dict[str, Any], **changes: str) -> dict[str, Any]:
    return {**predicate, SERVING_CHECK: predicate[SERVING_CHECK] | changes}


def test_it_is_no_receipt(statement: tuple[Path, str], key: Key) -> None:
    assert "no deletion receipt" in verify_receipt(statement[0], PemKey.of(key.pem)).checks[0].detail


def test_nobody_can_test_a_guess_without_the_salt(statement: tuple[Path, str], tmp_path: Path, key: Key) -> None:
    path, salt = statement
    everything = path.read_text() + json.dumps(payload(path))
    for secret in (FORGET.digest, OTHERS.digest, salt, *(pair.question for pair in FORGET)):
        assert secret not in everything
    other, other_salt = signed(tmp_path / "again", key)
    assert salt != other_salt
    sets = [payload(each)["predicate"][SERVING_CHECK]["pairs"]["hmac-sha256"] for each in (path, other)]
    assert sets[0] != sets[1]


def test_the_command_says_the_verdict_first_and_what_isnt_shown(statement: tuple[Path, str], pem: Path) -> None:
    done = run(statement[0], "--keys", pem)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("PASSED: the forgetting arrives\n")
    for part in (
        "endpoint  https://models.example.org/eu",
        "adapter   vgid-demo-e88e5760ac38",
        "about     4 forgotten pairs, 3 others",
        "at        2031-05-01 12:00:00 UTC",
        "ok       adapter: 0 of 4 facts are told",
        "untested reload: not asked",
        "adapter: 0 of 4 facts are told, 4 asked, ROUGE-L 0.126",
        "What the statement does NOT show",
        "That it is so now, or everywhere.",
        "The answers of one moment.",
    ):
        assert part in done.stdout
    said = json.loads(run(statement[0], "--keys", pem, "--json").stdout)
    assert (said["holds"], said["passed"], said["check"]["verdict"], said["proofs"]) == (True, True, "arrives", [])


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("does-not-arrive", "NOT PASSED: the forgetting does not arrive"),
        ("inconclusive", "NOT PASSED: nobody can tell"),
    ],
)
def test_another_verdict_ends_with_1(tmp_path: Path, key: Key, pem: Path, verdict: str, said: str) -> None:
    path, _ = signed(tmp_path / "check", key, verdict=verdict, control=None)
    done = run(path, "--keys", pem)
    assert (done.exit_code, done.stdout.startswith(said)) == (1, True)
    assert done.stdout.partition("\n")[0].endswith("nobody asked whether anything else still does")
    assert "4 forgotten pairs, no others" in done.stdout


def test_the_salt_shows_whom_it_is_about(statement: tuple[Path, str], tmp_path: Path, pem: Path) -> None:
    FORGET.write_jsonl(tmp_path / "forget.jsonl")
    OTHERS.write_jsonl(tmp_path / "others.jsonl")
    PairSet.of("fewer", FORGET.pairs[1:]).write_jsonl(tmp_path / "fewer.jsonl")
    command = [statement[0], "--keys", pem, "--salt", statement[1], "--set"]
    done = run(*command, f"pairs={tmp_path}/forget.jsonl", "--set", f"control={tmp_path}/others.jsonl")
    assert (done.exit_code, done.stdout.count("ok     set ")) == (0, 2)
    for wrong in (f"pairs={tmp_path}/fewer.jsonl", f"control={tmp_path}/forget.jsonl"):
        assert run(*command, wrong).exit_code == 5
    unknown = run(*command, f"forget={tmp_path}/forget.jsonl")
    assert (unknown.exit_code, "names no such set; it names control, pairs" in unknown.stderr) == (2, True)
    job = run(statement[0], "--keys", pem, "--salt", statement[1], "--job", "1")
    assert (job.exit_code, "names no job" in job.stderr) == (2, True)
