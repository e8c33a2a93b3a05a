"""Describes the machine that a bench runs on, times its work, and saves its figures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parents[1] / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, accelerator, commit and package versions of this run."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _COMMIT,
        "versions": {name: _version(name) for name in ("vgid", "torch", "transformers", "peft")},
    }


def _processor() -> str:
    """The processor's name if the system gives it, else the architecture."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _commit() -> str:
    """The tree's commit, with "-dirty" if its code differs. Results and docs don't count, since benches write them."""
    written = (":(exclude)bench/results", ":(exclude)docs")
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", ".", *written) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no git, or a copy without its history


def _git(*arguments: str) -> str:
    here = ["git", "-C", str(RESULTS.parents[1])]
    return subprocess.run([*here, *arguments], check=True, capture_output=True, text=True).stdout.strip()


# Read at import, because the tree may have changed by the time the figures are there.
_COMMIT = _commit()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # run from a source tree


def device_at_hand() -> torch.device:
    """The accelerator, or the CPU with one thread if there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def now() -> float:
    """The time in seconds: wall time after the accelerator has finished its work, or processor time without one.

    Other programs on a shared processor don't count in processor time.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of `values`."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def save(name: str, figures: Mapping[str, Any], *, seed: int | Sequence[int] | None, runs: int) -> Path:
    """Writes bench/results/<name>.json with the figures, the machine and the time. Returns the file.

    seed: None if nothing is random. runs: over how many runs the medians are taken. Raises ValueError if `figures` has
    a name that this function writes itself.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"bench": name, "at": at, "seed": seed, "runs": runs, "machine": machine()}
    if taken := record.keys() & figures.keys():
        raise ValueError(f"figures need other names than {', '.join(taken)}")
    path.write_text(json.dumps({**record, **figures}, indent=2) + "\n", encoding="utf-8")
    return path
