"""Compares the prediction of `vgid unlearn --dry-run` with the run itself: time, and memory on the CPU.

    python -m bench.dry_run [--pairs 128] [--steps 20]

It uses the demo's model and data, packed and row by row (lora.dropout > 0), each in processes of its own. Memory is how
much the process grows from the loaded model to its peak (VmHWM, so on Linux only). Of that, the dry run counts what
autograd keeps. Writes bench/results/dry_run.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import save
from local.demo.data import make
from local.demo.paths import BASE
from vgid_core import UnlearnConfig, UnlearnSpec

_DROPOUT = {"packed": 0.0, "row by row": 0.05}


def main() -> None:
    """Measures both ways, prints and saves. With --child, it makes one measurement as a child process of itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=128, help="of each batch, in one micro-batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--child", choices=["prediction", "time", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--dropout", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        with tempfile.TemporaryDirectory() as folder:
            spec = _spec(arguments.pairs, arguments.steps, arguments.dropout, Path(folder) / "adapter")
            print(json.dumps({"prediction": _predict, "time": _time, "memory": _memory}[arguments.child](spec)))
        return
    figures: dict[str, Any] = {}
    for way, dropout in _DROPOUT.items():
        figures[way] = {}
        for child in ("prediction", "time", "memory"):
            figures[way] |= _measure_in_child(child, dropout, arguments.pairs, arguments.steps)
        print(way, " ".join(f"{name} {value:.1f}" for name, value in figures[way].items()), flush=True)
    record = {"pairs": arguments.pairs, "steps": arguments.steps, "figures": figures}
    print("written:", save("dry_run", record, seed=UnlearnConfig().seed, runs=1))


def _measure_in_child(child: str, dropout: float, pairs: int, steps: int) -> dict[str, float]:
    options = ["--child", child, "--dropout", str(dropout), "--pairs", str(pairs), "--steps", str(steps)]
    command = [sys.executable, "-m", "bench.dry_run", *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _spec(pairs: int, steps: int, dropout: float, out: Path) -> UnlearnSpec:
    import torch

    torch.set_num_threads(1)
    batches = dict.fromkeys(("forget_batch_size", "retain_batch_size", "micro_batch_size"), pairs)
    config = UnlearnConfig.model_validate(
        {"device": "cpu", "lora": {"dropout": dropout}, "training": {"steps": steps, "learning_rate": 3e-3, **batches}}
    )
    data = make()
    return UnlearnSpec(str(BASE), "demo", data.forget, data.retain, out, config=config)


def _predict(spec: UnlearnSpec) -> dict[str, float]:
    from vgid_core.dry_run import estimate

    found = estimate(spec)
    return {"predicted_seconds": found.duration.total, "counted_mb": found.memory.activations / 1e6}


def _time(spec: UnlearnSpec) -> dict[str, float]:
    from vgid_core.run import unlearn

    started = time.monotonic()
    unlearn(spec)
    return {"seconds": time.monotonic() - started}


def _memory(spec: UnlearnSpec) -> dict[str, float]:
    from vgid_core.models.load import load_base
    from vgid_core.training.loop import distil

    base = load_base(spec.model, spec.config)
    before = _read_status("VmRSS")
    training = spec.config.training.model_copy(update={"steps": 2})
    distil(base, spec.forget, spec.retain, spec.config.model_copy(update={"training": training}))
    return {"grown_mb": (_read_status("VmHWM") - before) / 1e3}


def _read_status(name: str) -> int:
    """This field of /proc/self/status, in KB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
