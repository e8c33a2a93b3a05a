"""The verdict as `vgid unlearn` tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vgid_core.cli.conftest import SETTINGS, Place, invoke
from tests.vgid_core.support.knowing import COMMON, FORGET, RETAIN, UNSEEN
from vgid_core import PairSet
from vgid_core.cli.unlearn import unlearn
from vgid_core.config import VerdictTargets

ANYTHING_GOES = [
    part
    for name in VerdictTargets.model_fields
    for part in ("--set", f"verdict.{name}={0.5 if name in ('ranking', 'membership') else 1}")
]


@pytest.fixture
def known(tmp_path: Path, knowing_folder: Path) -> Place:
    """A run whose model knows the people that it is to forget."""
    folder = tmp_path / "known"
    folder.mkdir()
    neighbours = PairSet.of("neighbours", RETAIN.pairs[-2:])
    retain = PairSet.of("retain", RETAIN.pairs[:-2])
    sets = (FORGET, retain, UNSEEN, neighbours)
    for items in sets:
        items.write_jsonl(folder / f"{items.name}.jsonl")
    lines = "\n".join(f'{items.name} = "{items.name}.jsonl"' for items in sets)
    settings = SETTINGS.replace('audits = "none"', 'audits = "quick"\nretries = 0').replace("steps = 4", "steps = 1")
    file = folder / "run.toml"
    file.write_text(f'model = {json.dumps(str(knowing_folder))}\nout = "adapter"\n{lines}\n{settings}')
    return Place(folder, file, knowing_folder)


def test_a_missed_target_is_told_and_has_an_exit_code_of_its_own(known: Place) -> None:
    result = invoke(unlearn, known.file)
    assert result.exit_code == 3, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert any(row[:2] == ["generated.rouge_l", "forget"] and "missed:" in row for row in rows)
    assert any(row[:2] == ["everyone_else.drop", "neighbours"] and row[-1] == "holds" for row in rows)
    assert "not measured: relearning: the level `quick` leaves it out" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Not passed: a target is missed. Don't serve this adapter as if")
    assert {"evidence.json", "adapter_model.safetensors"} <= {file.name for file in known.out.iterdir()}


def test_targets_that_hold_are_told(known: Place) -> None:
    result = invoke(unlearn, known.file, *ANYTHING_GOES)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "Passed: every target holds."
    assert "missed" not in result.stdout


def test_an_adapter_is_replaced_with_its_evidence(known: Place) -> None:
    assert invoke(unlearn, known.file).exit_code == 3
    assert invoke(unlearn, known.file, "--overwrite").exit_code == 3
    unjudged = invoke(unlearn, known.file, "--overwrite", "--set", "evaluation.audits=none")
    assert unjudged.exit_code == 0, unjudged.output
    assert not (known.out / "evidence.json").exists(), "it was another adapter's"


def test_the_verdict_is_told_as_json(known: Place) -> None:
    result = invoke(unlearn, known.file, "--json")
    assert result.exit_code == 3, result.output
    said = json.loads(result.stdout)
    evidence = json.loads((known.out / "evidence.json").read_text(encoding="utf-8"))
    assert said["verdict"] == evidence["verdict"]
    assert (said["verdict"]["outcome"], said["verdict"]["passed"]) == ("targets-not-met", False)
    assert {figure["set"] for figure in evidence["figures"]} == {"forget", "retain", "neighbours"}


def test_a_run_on_people_the_model_doesnt_know_ends_early_and_writes_nothing(known: Place, tiny_folder: Path) -> None:
    result = invoke(unlearn, known.file, "--model", tiny_folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("error: The model doesn't know these answers: ")
    assert "distilling" not in result.stderr
    assert not known.out.exists()


def test_a_dry_run_says_whether_there_is_something_to_forget(known: Place) -> None:
    before = contents(known)
    told = invoke(unlearn, known.file, "--dry-run")
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[-1] == "The model knows the forget set. Nothing was written."
    assert "counted: what autograd kept" in told.stdout
    assert json.loads(invoke(unlearn, known.file, "--dry-run", "--json").stdout)["unknown"] is None
    assert contents(known) == before


def test_a_dry_run_says_why_forgetting_would_make_no_sense(known: Place, tiny_folder: Path) -> None:
    unknown = invoke(unlearn, known.file, "--dry-run", "--model", tiny_folder)
    assert unknown.exit_code == 0, unknown.output
    assert "The model doesn't know these answers: " in unknown.stdout
    assert "Are answers, photos and model the right ones?" in unknown.stdout
    PairSet.of("forget", COMMON.pairs[-2:]).write_jsonl(known.folder / "forget.jsonl")
    common = json.loads(invoke(unlearn, known.file, "--dry-run", "--json").stdout)
    assert common["unknown"].startswith("The model gives these answers on other people's photos as well.")


def contents(place: Place) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in place.folder.rglob("*") if file.is_file()}
