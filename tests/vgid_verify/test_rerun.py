"""Measuring again: figures of proven sets are compared, all others are named with the reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.signing.statement import keyed_manifest
from tests.signing_keys import Key
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.runs import CONFIG, changed, spec
from tests.vgid_verify.signed import EVIDENCE, SALT, sha256, sign, signed_folder
from tests.vgid_verify.signed import FORGET as SIGNED_FORGET
from vgid_core import UnlearnConfig, unlearn
from vgid_verify import Report, verify_folder
from vgid_verify.rerun import CannotMeasure, compared


def rows(**values: float) -> list[dict[str, Any]]:
    own = {"low": 0, "high": 1, "people": 3, "items": 60, "control": None, "before": None}
    return [
        {"audit": name.partition(".")[0], "figure": name, "set": of, "value": value, **own}
        for (name, of), value in ((tuple(key.split(" on ")), value) for key, value in values.items())
    ]


SIGNED = {
    "prefill.up_to_fact on forget": 0.1,
    "generated.rouge_l on retain": 0.9,
    "ranking.lens.below on forget": 0.5,
    "membership.loss on forget": 0.5,
}


@pytest.fixture
def report(tmp_path: Path, key: Key) -> Report:
    """A report whose run had the sets forget and retain."""
    return verify_folder(signed_folder(tmp_path / "own", key, {**EVIDENCE, "figures": rows(**SIGNED)}), key.file)


def found(figures: dict[str, float], **changes: Any) -> dict[str, Any]:
    digests = {"forget": SIGNED_FORGET.digest, "retain": sha256(b"of the client's own")}
    document = {"measured": {"base_digest": "ab" * 32}, "set_digests": digests, "figures": rows(**figures)}
    return {**document, "verdict": {"outcome": "forgotten"}, **changes}


def test_figures_of_the_runs_own_sets_are_compared_within_the_tolerance(report: Report) -> None:
    again = compared(report, found({**SIGNED, "prefill.up_to_fact on forget": 0.14}), SALT)
    assert {check.name: check.held for check in again.checks} == {
        "prefill.up_to_fact on forget": True, "membership.loss on forget": True
    }  # fmt: skip
    assert again.checks[0].detail == "signed 0.100, here 0.140 (may differ by 0.05)"
    assert again.not_compared == (
        "generated.rouge_l on retain: the run's set retain isn't here",
        "ranking.lens.below on forget: the run's set retain isn't here",
    )


def test_a_figure_that_is_another_one_is_named(report: Report) -> None:
    (check, _) = compared(report, found({**SIGNED, "prefill.up_to_fact on forget": 0.2}), SALT).checks
    assert (check.name, check.held) == ("prefill.up_to_fact on forget", False)


def test_few_items_may_differ_by_two_of_them(report: Report) -> None:
    few = json.loads(json.dumps(report.evidence))
    for row, items in zip(few["figures"], (8, 8, 8, 7), strict=True):
        row["items"] = items
    again = compared(replace(report, evidence=few), found({"prefill.up_to_fact on forget": 0.34}), SALT)
    assert again.checks[0].held
    assert again.not_compared[-1] == "membership.loss on forget: 7 items are too few to compare"
    fewer = compared(replace(report, evidence=few), found({}), SALT)
    assert "prefill.up_to_fact on forget: it wasn't measured here" in fewer.not_compared


def test_it_is_judged_only_where_all_sets_are_the_runs_own(report: Report) -> None:
    assert compared(report, found(SIGNED), SALT).outcome is None
    own = {"forget": SIGNED_FORGET.digest, "retain": "cd" * 32}
    assert compared(report, found(SIGNED, set_digests=own), SALT).outcome == "forgotten"


def test_other_requests_of_the_run_are_counted_and_not_compared(tmp_path: Path, key: Key) -> None:
    """Their pairs aren't the client's, so a verdict that is also about them isn't reached here."""
    others = {
        "together": {"digest": "ef" * 32, "pairs": 9, "sets": 2},
        "replay_sets": {"digest": "aa" * 32, "pairs": 5, "sets": 1},
    }
    evidence = {**EVIDENCE, "figures": rows(**SIGNED, **{"generated.rouge_l on replay_sets": 0.1})}
    report = verify_folder(signed_folder(tmp_path / "own", key, evidence, others=others), key.file)
    assert report.holds
    assert (set(report.set_digests), report.of_others) == ({"forget", "retain"}, {"replay_sets": 1, "together": 2})
    own = {"forget": SIGNED_FORGET.digest, "retain": "cd" * 32}
    again = compared(report, found(SIGNED, set_digests=own), SALT)
    assert again.outcome is None
    assert any("other requests'" in reason for reason in again.not_compared)


@pytest.mark.parametrize(
    ("changes", "salt", "said"),
    [
        ({"measured": {"base_digest": "ef" * 32}}, SALT, "isn't the base that the statement names"),
        ({"set_digests": {"forget": "ef" * 32}}, SALT, "forget set isn't the run's own"),
        ({}, bytes(32), "forget set isn't the run's own, or the salt isn't this job's"),
    ],
    ids=["another base", "another forget set", "another salt"],
)
def test_what_isnt_the_runs_own_compares_nothing(
    report: Report, changes: dict[str, Any], salt: bytes, said: str
) -> None:
    with pytest.raises(CannotMeasure, match=said):
        compared(report, found(SIGNED, **changes), salt)


@pytest.fixture
def run_folder(tmp_path: Path, key: Key, knowing_folder: Path) -> Path:
    """A real run's signed adapter, and beside it a run file of the client's own."""
    out = tmp_path / "adapter"
    asked = {**CONFIG.evaluation.model_dump(), "audits": "quick", "max_new_tokens": 16, "retries": 0}
    config: UnlearnConfig = changed(CONFIG, evaluation=asked)
    sets = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN, "utility": None, "probes": {}}
    result = unlearn(spec(knowing_folder, out, config=config, **sets))
    assert result.evidence is not None
    manifest = keyed_manifest(result.manifest, SALT)
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    sign(out, key, manifest, result.evidence.as_json())
    FORGET.write_jsonl(tmp_path / "forget.jsonl")
    RETAIN.write_jsonl(tmp_path / "retain.jsonl")
    text = f'model = "{knowing_folder}"\nforget = "forget.jsonl"\nretain = "retain.jsonl"\n[config]\ndevice = "cpu"\n'
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    (tmp_path / "keys.json").write_text(key.file.model_dump_json(), encoding="utf-8")
    return out


def verified(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("vgid", path=str(Path(sys.executable).parent))
    assert program is not None
    typed = [program, "verify", folder.name, "--keys", "keys.json", *arguments]
    return subprocess.run(typed, cwd=folder.parent, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_real_run_is_measured_again_on_the_clients_machine(run_folder: Path) -> None:
    done = verified(run_folder, "--salt", SALT.hex(), "--rerun", "run.toml", "--json")
    assert done.returncode == 1, done.stderr  # it holds, and a run of a few steps doesn't pass
    said = json.loads(done.stdout)
    assert (said["holds"], said["rerun"]["outcome"]) == (True, None)
    assert {check["name"] for check in said["rerun"]["checks"]} >= {
        "generated.rouge_l on forget", "prefill.up_to_fact on forget", "extraction_strength on forget"
    }  # fmt: skip
    assert all(check["held"] for check in said["rerun"]["checks"])
    assert "membership.loss on forget: the run's set unseen isn't here" in said["rerun"]["not_compared"]

    without = verified(run_folder, "--rerun", "run.toml")
    assert (without.returncode, without.stdout) == (2, "")
    assert "need --salt" in without.stderr
    missing = verified(run_folder, "--salt", SALT.hex(), "--rerun", "none.toml")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "could not measure: see above" in missing.stderr
