"""A release's folder holds by one statement, which says what it shows and what it doesn't."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.signing_keys import DAY, NOW, Key
from tests.vgid_verify.signed import sha256, signed_folder, signed_release
from vgid_verify import verify_folder
from vgid_verify.command import verify
from vgid_verify.names import BUNDLE, FOLDER_SIGNATURE
from vgid_verify.report import NOT_SHOWN_OF_RELEASE

NAMES = ["adapter_config.json", "adapter_model.safetensors", "manifest.json", BUNDLE, FOLDER_SIGNATURE]


@pytest.fixture
def release(tmp_path: Path, key: Key) -> Path:
    return signed_release(tmp_path / "release", key)


def run(folder: Path, key: Key, *arguments: str) -> Result:
    keys = folder.parent / "vgid-keys.json"
    keys.write_text(key.file.model_dump_json())
    app = typer.Typer()
    app.command()(verify)
    return CliRunner().invoke(app, [str(folder), "--keys", str(keys), *arguments], env={"VGID_KEYS": ""})


def test_an_untouched_release_holds(release: Path, key: Key) -> None:
    report = verify_folder(release, key.file)
    assert [check.name for check in report.checks if check.held] == ["statements", "files", "folder signature"]
    assert (report.holds, report.passed, report.outcome) == (True, True, "release")
    assert (report.keyid, report.signed_at, report.evidence, report.limits) == (key.public.keyid, NOW, None, ())
    assert report.release is not None
    assert report.release["adapter"] == {"sha256": sha256(bytes(range(256)) * 4)}
    assert report.as_json()["not_shown"][:5] == list(NOT_SHOWN_OF_RELEASE)


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_or_missing_file_is_named(release: Path, key: Key, name: str) -> None:
    path = release / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole.rstrip()) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        report = verify_folder(release, key.file)
        assert (report.holds, report.passed, report.release) == (False, False, None), place
        assert name in "".join(check.detail for check in report.checks if not check.held)
    path.unlink()
    assert not verify_folder(release, key.file).holds


def test_a_release_of_an_unknown_or_revoked_key_does_not_hold(release: Path, key: Key, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    assert not verify_folder(release, Key.make(tmp_path / "others").file).holds
    revoked = replace(key, public=key.public.model_copy(update={"revoked_at": NOW + DAY}))
    assert not verify_folder(release, revoked.file).holds


def test_a_releases_statement_beside_those_of_a_job_is_none(release: Path, key: Key, tmp_path: Path) -> None:
    """Nor does one of them stand for the other: each folder's bundle is of one sort."""
    job = signed_folder(tmp_path / "adapter", key)
    both = (job / BUNDLE).read_text() + (release / BUNDLE).read_text()
    for folder, bundle in (
        (job, both), (release, both), (release, (release / BUNDLE).read_text() * 2),
        (job, (release / BUNDLE).read_text()), (release, (job / BUNDLE).read_text()),
    ):  # fmt: skip
        (folder / BUNDLE).write_text(bundle)
        report = verify_folder(folder, key.file)
        assert (report.holds, report.passed) == (False, False)


def test_the_command_says_what_a_release_shows(release: Path, key: Key) -> None:
    done = run(release, key)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("PASSED: a release, and every request that it holds met its targets")
    for part in (
        f"adapter   weights with sha256 {sha256(bytes(range(256)) * 4)}",
        f"base      org/model, digest {'ab' * 32}",
        "ok     statements: release; signed at",
        "Whom it holds, how many they are",
        "only those of whom a replay set is kept are asked again",
    ):
        assert part in done.stdout
    said = json.loads(run(release, key, "--json").stdout)
    assert (said["holds"], said["passed"], said["outcome"]) == (True, True, "release")
    assert said["release"]["properties"] == ["VGID_EVERY_REQUEST_PASSED"]


def test_a_release_names_no_job_and_no_set(release: Path, key: Key) -> None:
    for typed in (("--job", "x"), ("--set", "forget=x.jsonl"), ("--rerun", "run.toml")):
        done = run(release, key, "--salt", "00", *typed)
        assert (done.exit_code, "names no job and no set" in done.stderr) == (2, True), done.output
    # A folder that doesn't hold says so first.
    (release / "manifest.json").write_text("{}")
    assert run(release, key).exit_code == 5
