"""Times the demo's job on one core: with the demo's settings, as published, and as an earlier commit runs it.

    python -m bench.job_time [--against 14b6aac] [--runs 3]

The earlier commit has the settings of its own demo. All take turns on the same model and data, each run in a process of
its own with one thread. It measures processor and wall seconds of `unlearn`, and wall seconds of the whole process with
its imports. Writes bench/results/job_time.json, and says whether the demo's job takes more processor time than the
earlier one's.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.parts.demo_models import SHIPPED
from bench.parts.machine import save, spread
from local.demo.data import make
from local.demo.paths import BASE

BAR = 1.0  # of the earlier job's processor time
HERE = Path(__file__).parents[1]
JOB = """
import json, sys, time
from pathlib import Path
from vgid_core import PairSet, UnlearnConfig, UnlearnSpec, unlearn
data, model, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
settings = json.loads(sys.argv[4])
more = {}
try:
    from vgid_core import PhotoSet
    more = {"unseen_faces": PhotoSet.read(data / "unseen_faces", "unseen_faces")}
except ImportError:  # an earlier tree, whose methods see no unseen faces
    pass
sets = {file.parent.name: PairSet.from_jsonl(file, file.parent.name) for file in sorted(data.glob("*/pairs.jsonl"))}
spec = UnlearnSpec(
    model=model, model_name="demo", forget=sets.pop("forget"), retain=sets.pop("retain"), utility=sets.pop("utility"),
    probes=sets, out=out, **more,
    config=UnlearnConfig.model_validate(settings),
)
wall, processor = time.perf_counter(), time.process_time()
result = unlearn(spec)
print(json.dumps({
    "wall": time.perf_counter() - wall, "processor": time.process_time() - processor,
    "phases": result.manifest["seconds"],
    "forget_rouge_l": next(m.value for m in result.metrics_after if (m.split, m.name) == ("forget", "rouge_l")),
}))
"""


_PUBLISHED = {"device": "cpu", "training": {"learning_rate": 3e-3}}
_ITS_SETTINGS = "import json; from local.demo_catalog import demo_settings; print(json.dumps(demo_settings()))"


def main() -> None:
    """Runs all in turn, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="14b6aac")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    contenders: dict[str, tuple[Path, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        demo = make()
        for items in (demo.forget, demo.retain, demo.utility, demo.held_out_photos, demo.rephrased, demo.retain_check):
            items.write_jsonl(work / "data" / items.name / "pairs.jsonl")
        demo.unseen_faces.write_folder(work / "data" / "unseen_faces")
        earlier = _check_out(arguments.against, work / "earlier")
        contenders[arguments.against] = (earlier, {"device": "cpu", **_settings_of(earlier)})
        contenders["published"] = (HERE, {"preset": "paper", **_PUBLISHED})
        contenders["default"] = (HERE, SHIPPED.default)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
        for number in range(arguments.runs):
            for name, (tree, settings) in contenders.items():
                runs[name].append(_run(tree, work, f"{name}{number}", settings))
                print(name, runs[name][-1], flush=True)
    figures = {name: _figures(found) for name, found in runs.items()}
    before = figures[arguments.against]["processor"]["median"]
    ratios = {name: row["processor"]["median"] / before for name, row in figures.items() if name != arguments.against}
    _print(figures, ratios)
    record = {"against": arguments.against, "ratios": ratios, "figures": figures, "rows": runs}
    print("written:", save("job_time", record, seed=0, runs=arguments.runs))
    print(f"bar: at most {BAR} for the default; {'kept' if ratios['default'] <= BAR else 'missed'}")


def _figures(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    whole = {key: spread([run[key] for run in found]) for key in ("processor", "wall", "process")}
    return whole | {phase: spread([run["phases"][phase] for run in found]) for phase in found[0]["phases"]}


def _print(figures: dict[str, dict[str, dict[str, float]]], ratios: dict[str, float]) -> None:
    table = Table("seconds", *figures)
    for key in next(iter(figures.values())):
        cells = [row[key] for row in figures.values()]
        table.add_row(key, *(f"{v['median']:.1f} ({v['min']:.1f}-{v['max']:.1f})" for v in cells))
    Console().print(table)
    for name, ratio in ratios.items():
        print(f"processor time of the job, {name}: {ratio:.2f}")


def _check_out(commit: str, folder: Path) -> Path:
    archive = subprocess.run(["git", "-C", str(HERE), "archive", commit], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _settings_of(tree: Path) -> dict[str, Any]:
    """The settings of this tree's own demo catalog."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", _ITS_SETTINGS], env=environment, cwd=tree, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _run(tree: Path, work: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-c", JOB, str(work / "data"), str(BASE), str(work / name)]
    command.append(json.dumps(settings))
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"process": time.perf_counter() - started}


if __name__ == "__main__":
    main()
