"""`vgid data check`: what it prints, and its exit codes."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.vgid_core.support.sources import write_mllmu
from tests.vgid_core.support.tiny import pair_set
from vgid_core import PairSet
from vgid_core.cli.data import app


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "160"})


def sets(folder: Path, *named: PairSet) -> Sequence[Path]:
    files = []
    for items in named:
        items.write_jsonl(folder / f"{items.name}.jsonl")
        files.append(folder / f"{items.name}.jsonl")
    return files


def test_the_command_prints_places_and_nothing_that_a_pair_holds(tmp_path: Path) -> None:
    forget, retain = sets(tmp_path, pair_set("forget", 4), pair_set("retain", 8, first_picture=3))
    done = run(forget, "--retain", retain, "--probe", f"again={forget}")
    assert done.exit_code == 0
    for expected in ("forget", "leaked-image", "retain[0]", "trained-probe", "again[0]", "and 1 more"):
        assert expected in done.stdout
    for held in ("Ada", "Quill", "person", "born", "teal"):
        assert held not in done.stdout


def test_the_command_as_json(tmp_path: Path, tiny_folder: Path) -> None:
    forget, retain = sets(tmp_path, pair_set("forget", 4), pair_set("retain", 8, first_picture=3))
    done = run(forget, "--retain", retain, "--model", tiny_folder, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"], report["unit"]) == (0, True, "tokens")
    assert [(one["name"], one["pairs"]) for one in report["sets"]] == [("forget", 4), ("retain", 8)]
    assert "leaked-image" in {finding["kind"] for finding in report["findings"]}
    assert "Ada" not in done.stdout


def test_the_command_ends_with_one_on_errors_and_says_all_of_them(tmp_path: Path) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 3))
    with forget.open("a") as lines:
        lines.write('{"image": "gone.png", "question": "q", "answer": "a"}\n[]\n')
    done = run(forget, "--retain", tmp_path / "nowhere.jsonl")
    assert done.exit_code == 1
    for place in ("forget[3].image", "forget[4]", "no such file or folder"):
        assert place in done.stdout


@pytest.mark.parametrize("option", ["--retain", "--utility", "--probe"])
def test_the_command_names_a_set_that_is_called_nothing(tmp_path: Path, option: str) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 3))
    done = run(forget, option, "" if option != "--probe" else "more=#")
    assert done.exit_code == 1
    assert "names no file or folder" in done.stdout


def test_the_command_reads_other_formats_and_says_what_is_left_out(tmp_path: Path) -> None:
    done = run(f"mllmu:{write_mllmu(tmp_path)}#forget_5")
    assert done.exit_code == 0
    assert "forget: left out 4 questions of Mask_Task" in done.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--probe", "nameless"], "NAME=VALUE"),
        (["--probe", "retain=x"], "another name"),
        (["--probe", "a=x", "--probe", "a=y"], "one name two values"),
        (["--model", "/nowhere"], "no folder /nowhere"),
        (["--model", "tests/nothing"], "isn't asked of the hub"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
    ],
)
def test_wrong_usage_ends_with_two(tmp_path: Path, more: list[str], said: str) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 1))
    done = run(forget, *more)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_model_whose_processor_isnt_there_ends_with_two(tmp_path: Path) -> None:
    (forget,) = sets(tmp_path, pair_set("forget", 1))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    done = run(forget, "--model", tmp_path / "model")
    assert done.exit_code == 2
    assert "no processor" in " ".join(done.output.split())


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_of_byte_is_survived(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for name in ("x.jsonl", "x.parquet", "full.json", "split.json", "metadata.csv"):
        (tmp_path / name).write_bytes(rng.randbytes(300))
    for source in ("x.jsonl", "x.parquet", "", "full.json"):
        assert run(tmp_path / source).exit_code == 1
    for form in ("jsonl", "folder", "mllmu", "clear", "fiubench", "dataset"):
        assert run(f"{form}:{tmp_path}").exit_code == 1


def test_neither_readers_nor_the_command_load_what_they_may_not_need() -> None:
    code = "import sys, vgid_core.cli.data; print([m for m in ('torch', 'pyarrow', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
