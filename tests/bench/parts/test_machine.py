"""The JSON of every bench: it says where and how its figures were measured."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.parts import machine


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")


def test_the_json_holds_seed_runs_processor_commit_and_versions() -> None:
    path = machine.save("some", {"figure": 1.5}, seed=[0, 1], runs=4)
    found = json.loads(path.read_text())
    assert (found["bench"], found["seed"], found["runs"], found["figure"]) == ("some", [0, 1], 4, 1.5)
    where = found["machine"]
    assert where["versions"]["torch"] == version("torch")
    assert where["commit"] == "unknown" or len(where["commit"].removesuffix("-dirty")) == 40
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert where["processor"] in cpuinfo or where["processor"] == (platform.processor() or platform.machine())


def test_a_figure_cant_take_a_reserved_name() -> None:
    with pytest.raises(ValueError, match="runs"):
        machine.save("some", {"runs": [1, 2]}, seed=None, runs=2)
