"""A missed bar ends a bench with a code that no failure has."""

import json
import sys
from pathlib import Path

import pytest

from bench import gpu
from bench.parts import machine
from bench.parts.bars import MISSED, exit_if_missed


def test_a_missed_bar_is_named_and_ends_the_bench(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_if_missed(["19 ms a pair, at most 18", "41 GiB, at most 40"])
    assert ended.value.code == MISSED
    assert capsys.readouterr().err == "missed: 19 ms a pair, at most 18\nmissed: 41 GiB, at most 40\n"


def test_without_a_missed_bar_the_bench_goes_on() -> None:
    exit_if_missed([])


@pytest.mark.parametrize(
    ("module", "outcome"),
    [
        ("pass", "done"),
        ("from bench.parts.bars import exit_if_missed; exit_if_missed(['a bar'])", "missed a bar"),
        ("raise ValueError", "failed"),
        ("raise SystemExit('no packed scorer')", "failed"),
    ],
)
def test_the_collection_tells_a_missed_bar_from_a_failure(
    module: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_bench.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{gpu.__file__.removesuffix('/bench/gpu.py')}")
    monkeypatch.setattr(gpu, "wanted", lambda _models: [gpu.Wanted("a bench", ("some_bench",), ("some_bench",))])
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu", "--minutes", "1"])
    if outcome == "failed":
        with pytest.raises(SystemExit, match="1"):
            gpu.main()
    else:
        gpu.main()
    (summary,) = tmp_path.glob("gpu*.json")
    assert [row["outcome"] for row in json.loads(summary.read_text())["rows"]] == [outcome]
