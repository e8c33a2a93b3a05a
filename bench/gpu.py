"""Every figure that needs a GPU, in one call, most wanted first; what there is no time for is left out and named.

    python -m bench.gpu [--minutes 25] [--models FOLDER]

Runs the benches that docs/how-to/gpu.md lists, each in a process of its own. Each writes its JSON into
bench/results; a summary goes to bench/results/gpu.json after every one. A bench that would run past the minutes is
ended; of a step's modes and of a curve's points those before are written. Exits with 1 if one failed; a missed bar is
an outcome, and no failure. Without a GPU the same benches run on tiny shapes, without bars: so it is tried before one
is lent. What that writes ends in _tiny.json, and git ignores it.

The last one builds the demo model on SmolLM2's language tower into FOLDER, and goes on where an earlier call stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.parts.bars import MISSED
from bench.parts.machine import save

_LEAST_SECONDS = 20.0  # to begin something in


@dataclass(frozen=True)
class Wanted:
    """One bench: its module or command, its arguments, and which of them a CPU takes instead."""

    what: str
    command: tuple[str, ...]
    on_cpu: tuple[str, ...] | None

    def arguments(self, on_gpu: bool) -> tuple[str, ...] | None:
        """What to run here; None for what needs a GPU."""
        return self.command if on_gpu else self.on_cpu


def wanted(models: Path) -> list[Wanted]:
    """In the order of how much they are missed."""
    build = ("vgid_client.cli", "demo-model", "build", "--language", "smollm2", "--people", "100", "--out", str(models))

    def tiny(*command: str) -> tuple[str, ...]:
        return (*command, "--tiny")

    def bench(what: str, *command: str) -> Wanted:
        return Wanted(what, command, tiny(*command))

    cost = "bench.step_cost"
    return [
        bench("a step beside recipe and baseline", cost, "--modes", "published,tuned,packed,compiled"),
        bench("a step of the default method", cost, "--method", "vgid-substitute", "--modes", "packed,compiled"),
        bench("a whole job with evidence", "bench.job_cost"),
        bench("a whole job of VGID as published", "bench.job_cost", "--method", "vgid"),
        bench("a step in fp8 and in 4 bits", cost, "--modes", "fp8,nf4"),
        bench("a whole job in 4 bits", "bench.job_cost", "--method", "vgid", "--weights", "nf4"),
        bench("how the cost grows", "bench.cost_curve", "--mode", "compiled"),
        Wanted("the demo model on SmolLM2's tower", build, (*build, "--dry-run")),
    ]


def main() -> None:
    """Runs what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--models", type=Path, default=Path(".vgid") / "demo-smollm2-100")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    ends = time.monotonic() + 60 * arguments.minutes
    rows: list[dict[str, Any]] = []
    for each in wanted(arguments.models):
        command = each.arguments(on_gpu)
        left = ends - time.monotonic()
        if command is None or left < _LEAST_SECONDS:
            rows.append({"what": each.what, "outcome": "no time left" if command else "needs a GPU"})
        else:
            print(f"\n== {each.what}: python -m {' '.join(command)} ({left / 60:.0f} minutes left)", flush=True)
            rows.append(_run(each.what, command, left))
        name = "gpu" if on_gpu else "gpu_tiny"
        save(name, {"on_gpu": on_gpu, "minutes": arguments.minutes, "rows": rows}, seed=0, runs=len(rows))
    print()
    for row in rows:
        print(f"{row['outcome']:>16}  {row.get('seconds', 0):6.0f} s  {row['what']}")
    if any(row["outcome"] == "failed" for row in rows):
        raise SystemExit(1)


def _run(what: str, command: tuple[str, ...], seconds: float) -> dict[str, Any]:
    started = time.monotonic()
    try:
        done = subprocess.run([sys.executable, "-m", *command], timeout=seconds, check=False)
        outcome = {0: "done", MISSED: "missed a bar"}.get(done.returncode, "failed")
    except subprocess.TimeoutExpired:
        outcome = "ran out of time"
    return {"what": what, "command": list(command), "outcome": outcome, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    main()
