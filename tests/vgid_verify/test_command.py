"""`vgid verify` says what holds and what it doesn't show, and its exit code says it to scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.signing_keys import Key
from tests.vgid_verify.signed import FORGET, JOB, SALT, missed, signed_folder
from vgid_verify.command import verify

RUNNER = CliRunner()


@pytest.fixture
def keys(key: Key, tmp_path: Path) -> Path:
    path = tmp_path / "vgid-keys.json"
    path.write_text(key.file.model_dump_json())
    return path


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(verify)
    return RUNNER.invoke(app, list(map(str, arguments)), env={"VGID_KEYS": ""})


def test_a_passed_folder_ends_with_0_and_says_what_it_doesnt_show(folder: Path, keys: Path) -> None:
    done = run(folder, "--keys", keys)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("PASSED: forgotten, at level standard\n")
    for part in (
        "held   extraction.strength on forget: 0.17 [0.1, 0.25], -0.03 above control, limit 0.3\n",
        "NOT MEASURED neighbours",
        "extraction.strength on forget: 0.17 [0.1, 0.25], before 1, unseen 0.2 [0.1, 0.3] (3 people, 15 items)",
        "rouge_l on forget: 1.000 before, 0.040 after (4 pairs)",
        "ok     files: adapter_config.json",
        "What the statement does NOT show",
        "That nothing of the person is left.",
        "no time stamp of somebody else",
    ):
        assert part in done.stdout


def test_a_missed_target_ends_with_1(tmp_path: Path, key: Key, keys: Path) -> None:
    done = run(signed_folder(tmp_path / "failed", key, missed()), "--keys", keys)
    assert done.exit_code == 1
    assert done.stdout.startswith("NOT PASSED: targets-not-met")
    assert "MISSED extraction.strength on forget: 0.6" in done.stdout


def test_no_verdict_ends_with_1(tmp_path: Path, key: Key, keys: Path) -> None:
    done = run(signed_folder(tmp_path / "unjudged", key, None), "--keys", keys)
    assert (done.exit_code, "no verdict" in done.stdout) == (1, True)


def test_a_changed_file_ends_with_5_and_shows_no_figure(folder: Path, keys: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    (folder / "evil\x1b[2J").write_bytes(b"")
    done = run(folder, "--keys", keys)
    assert done.exit_code == 5
    assert done.stdout.startswith("DOES NOT HOLD")
    assert "WRONG  files: adapter_model.safetensors was changed" in done.stdout
    assert "evil?[2J was added" in done.stdout
    assert "\x1b" not in done.stdout
    assert "0.17" not in done.stdout


def test_json_holds_everything(folder: Path, keys: Path, key: Key) -> None:
    said = json.loads(run(folder, "--keys", keys, "--json").stdout)
    assert (said["holds"], said["passed"], said["outcome"]) == (True, True, "forgotten")
    assert said["evidence"]["figures"][0]["value"] == 0.17
    assert (said["keyid"], said["signed_at"]) == (key.public.keyid, "2031-05-01T12:00:00+00:00")
    assert len(said["not_shown"]) == 6


def test_the_salt_opens_job_and_set(folder: Path, keys: Path, tmp_path: Path) -> None:
    FORGET.write_jsonl(tmp_path / "data" / "forget.jsonl")
    opened = ["--salt", SALT.hex(), "--set", f"forget={tmp_path}/data/forget.jsonl", "--job", str(JOB)]
    done = run(folder, "--keys", keys, *opened)
    assert (done.exit_code, "ok     set forget" in done.stdout, "ok     job" in done.stdout) == (0, True, True)
    wrong = run(folder, "--keys", keys, "--salt", "00" * 32, *opened[2:])
    assert (wrong.exit_code, wrong.stdout.count("WRONG")) == (5, 2)


def test_wrong_usage_ends_with_2(folder: Path, keys: Path, key: Key, tmp_path: Path) -> None:
    (tmp_path / "private.pem").write_bytes(key.private.statements.private_bytes)
    (tmp_path / "folders.pem").write_text(key.public.folders.keyval["public"])
    (tmp_path / "public.pem").write_bytes(key.pem)
    (tmp_path / "bad.json").write_text('{"keys": [{}]}')
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for arguments, complaint in (
        ([folder], "--keys"),
        ([folder, "--keys", tmp_path / "nowhere.json"], "can't be read"),
        ([folder, "--keys", tmp_path / "bad.json"], "this is no key file (at 'keys.0.keyid'"),
        ([tmp_path / "nowhere", "--keys", keys], "there is no such file or folder"),
        ([folder, "--keys", tmp_path / "private.pem"], "openssl pkey -in KEY.pem -pubout"),
        ([folder, "--keys", tmp_path / "folders.pem"], "isn't an Ed25519 key"),
        ([folder, "--keys", tmp_path / "public.pem"], "pass the service's key file"),
        ([folder, "--keys", keys, "--job", str(JOB)], "need --salt"),
        ([folder, "--keys", keys, "--salt", "xyz"], "hex digits"),
        ([folder, "--keys", keys, "--salt", "00", "--set", f"forget={tmp_path}/bad.jsonl"], "line 1"),
        ([folder, "--keys", keys, "--salt", "00", "--set", "forget"], "NAME=FILE.jsonl"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert complaint in " ".join(done.stderr.replace("│", "").split())
