"""Every bench that `bench.gpu` starts understands its arguments and has settings for its method.

Each is run until it asks for its model. That is where the hours of a lent GPU begin. What is ended early has written
what it had.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import cost_curve, job_cost, step_cost
from bench.gpu import Wanted, wanted
from bench.parts import machine, published_recipes
from tests.docs.commands import fault_in

RUNS = wanted(Path("models"))
BENCHES = [each for each in RUNS if each.command[0].startswith("bench.")]
# Of tiny shapes, but measured and kept: docs/performance.md quotes them.
KEPT = {"cost_curve_vgid_packed_tiny", "cost_curve_vgid-substitute_packed_tiny"}


class _ModelAskedFor(Exception):
    pass


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise _ModelAskedFor

    # The throughput of a machine with a GPU takes a second, and the device sets the threads of the whole process.
    monkeypatch.setattr(step_cost, "matrix_throughput", lambda _device: 0.0)
    for module in (step_cost, job_cost, cost_curve):
        monkeypatch.setattr(module, "device_at_hand", lambda: torch.device("cpu"))
    for module, name in ((step_cost, "build_base"), (job_cost, "build_base"), (published_recipes, "build_model")):
        monkeypatch.setattr(module, name, ask)


@pytest.mark.parametrize("on_gpu", [True, False], ids=["GPU", "CPU"])
@pytest.mark.parametrize("run", BENCHES, ids=lambda run: run.what)
def test_a_bench_gets_as_far_as_its_model(run: Wanted, on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    command = run.arguments(on_gpu)
    assert command is not None
    monkeypatch.setattr(sys, "argv", list(command))
    with pytest.raises(_ModelAskedFor):
        import_module(command[0]).main()


@pytest.mark.parametrize("on_gpu", [True, False], ids=["GPU", "CPU"])
def test_the_other_runs_are_commands_of_vgid(on_gpu: bool) -> None:
    commands = [run.arguments(on_gpu) for run in RUNS if run not in BENCHES]
    assert [command[0] for command in commands if command] == ["vgid_client.cli"]
    assert [fault_in(list(command[1:])) for command in commands if command] == [None]


@pytest.mark.parametrize("on_gpu", [True, False], ids=["GPU", "CPU"])
def test_no_run_overwrites_the_file_of_another(on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for run in BENCHES:
        command = run.arguments(on_gpu)
        assert command is not None
        bench = import_module(command[0])
        monkeypatch.setattr(sys, "argv", list(command))
        names.append(bench.name_of(bench.read_arguments()))
    assert len(set(names)) == len(BENCHES) > 1
    assert {name.endswith("_tiny") for name in names} == {not on_gpu}, "git ignores what is tried on a CPU"
    assert KEPT.isdisjoint(names)


@pytest.mark.parametrize(
    ("module", "words", "measured"),
    [
        ("bench.step_cost", ("--tiny", "--modes", "packed,compiled"), "figures"),
        ("bench.cost_curve", ("--tiny", "--mode", "compiled"), "points"),
    ],
)
def test_what_is_ended_early_has_written_what_it_had(
    module: str, words: tuple[str, ...], measured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([{"ms_per_pair": 1.5}])

    def ours(*_: object) -> dict[str, Any]:
        if (found := next(figures, None)) is None:
            raise _ModelAskedFor
        return found

    bench = import_module(module)
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "ours", ours)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(_ModelAskedFor):
        bench.main()
    written = json.loads((tmp_path / f"{bench.name_of(bench.read_arguments())}.json").read_text())
    assert len(written[measured]) == 1
    assert "1.5" in json.dumps(written[measured])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "step_cost_vgid"),
        (("--tiny",), "step_cost_vgid_tiny"),
        (("--modes", "nf4,fp8"), "step_cost_vgid_fp8_nf4"),
        (("--modes", "nf4,fp8,compiled,packed", "--method", "vgid-substitute"), "step_cost_vgid-substitute"),
    ],
)
def test_a_files_name_has_the_modes_unless_these_are_all(
    words: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["step_cost", *words])
    assert step_cost.name_of(step_cost.read_arguments()) == name


def test_a_mode_that_the_method_hasnt_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["step_cost", "--method", "vgid-substitute", "--modes", "packed,tuned"])
    with pytest.raises(SystemExit):
        step_cost.read_arguments()
    assert "vgid-substitute has no mode tuned" in capsys.readouterr().err


def test_a_mode_that_wasnt_measured_misses_no_bar() -> None:
    within = {"ms_per_pair": 11.0, "peak_gib": 30.0}
    assert step_cost.missed_bars({"fp8": within}) == []
    assert step_cost.missed_bars({"fp8": within, "nf4": within}) == ["30.0 GiB with NF4 weights, at most 24.0"]
