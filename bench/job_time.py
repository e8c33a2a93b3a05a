"""The demo's job on one core: this tree against an earlier commit, alternating in one run.

    python -m bench.job_time [--against c968ba3] [--runs 3]

c968ba3 is where the work on speed began. Both get the same model, data and settings, each run in a process of its own
with one thread. Processor and wall seconds of `unlearn`, and wall seconds of the whole process with its imports.
Writes bench/results/job_time.json; exits 1 when the job takes more than half of the earlier time.
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

from bench.machine import save, spread
from local.demo.data import make
from local.demo.paths import BASE

MOST_OF_EARLIER = 0.5
HERE = Path(__file__).parents[1]
JOB = """
import json, sys, time
from pathlib import Path
from vgid_core import PairSet, UnlearnConfig, UnlearnSpec, unlearn
data, model, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
# VGID as published, which is all that an earlier tree knows.
settings = {"device": "cpu", "training": {"steps": 60, "learning_rate": 3e-3}}
if hasattr(UnlearnConfig, "preset"):
    settings["preset"] = "paper"
sets = {file.parent.name: PairSet.from_jsonl(file, file.parent.name) for file in sorted(data.glob("*/pairs.jsonl"))}
spec = UnlearnSpec(
    model=model, model_name="demo", forget=sets.pop("forget"), retain=sets.pop("retain"), utility=sets.pop("utility"),
    probes=sets, out=out,
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


def main() -> None:
    """Runs both trees in turn and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="c968ba3")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {arguments.against: [], "this tree": []}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        demo = make()
        for items in (demo.forget, demo.retain, demo.utility, demo.held_out_photos, demo.rephrased, demo.retain_check):
            items.write_jsonl(work / "data" / items.name / "pairs.jsonl")
        trees = {arguments.against: _checked_out(arguments.against, work / "earlier"), "this tree": HERE}
        for number in range(arguments.runs):
            for tree, folder in trees.items():
                runs[tree].append(_run(folder, work, f"{folder.name}{number}"))
                print(tree, runs[tree][-1], flush=True)
    figures = {
        tree: {key: spread([run[key] for run in found]) for key in ("wall", "processor", "process")}
        for tree, found in runs.items()
    }
    table = Table("tree", "job, wall s", "job, processor s", "with imports, wall s")
    for tree, row in figures.items():
        table.add_row(tree, *(f"{v['median']:.1f} ({v['min']:.1f}-{v['max']:.1f})" for v in row.values()))
    Console().print(table)
    ratio = figures["this tree"]["processor"]["median"] / figures[arguments.against]["processor"]["median"]
    print(f"processor time of the job: {ratio:.2f} of {arguments.against}'s")
    record = {"against": arguments.against, "ratio": ratio, "figures": figures, "rows": runs}
    print("written:", save("job_time", record, seed=0, runs=arguments.runs))
    sys.exit(f"missed: at most {MOST_OF_EARLIER}" if ratio > MOST_OF_EARLIER else 0)


def _checked_out(commit: str, folder: Path) -> Path:
    archive = subprocess.run(["git", "-C", str(HERE), "archive", commit], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _run(tree: Path, work: Path, name: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-c", JOB, str(work / "data"), str(BASE), str(work / name)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"process": time.perf_counter() - started}


if __name__ == "__main__":
    main()
