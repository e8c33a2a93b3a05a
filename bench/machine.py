"""What a bench says about where it ran, and where its figures go."""

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

RESULTS = Path(__file__).parent / "results"


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
    """The model's name where the system tells it, else the architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _commit() -> str:
    """Of the tree, "-dirty" where its code isn't that commit's; benches write results and docs themselves."""
    written = (":(exclude)bench/results", ":(exclude)docs")
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", ".", *written) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no git, or a copy without its history


def _git(*arguments: str) -> str:
    here = ["git", "-C", str(RESULTS.parents[1])]
    return subprocess.run([*here, *arguments], check=True, capture_output=True, text=True).stdout.strip()


# Asked for while the bench's modules are loaded: the tree may have moved on by the time it has figures.
_COMMIT = _commit()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # run from a source tree


def device_at_hand() -> torch.device:
    """The accelerator; without one a single core, whose seconds `now` counts."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def now() -> float:
    """Wall seconds, once the accelerator has done what it was told; without one, processor seconds.

    What else runs on a shared processor doesn't count in these.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of `values`."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def save(name: str, figures: Mapping[str, Any], *, seed: int | Sequence[int] | None, runs: int) -> Path:
    """Writes bench/results/<name>.json with the machine and the time; returns the file.

    Args: seed, None where nothing is drawn. runs, of how many the medians are. Raises ValueError where `figures` has
    one of the names that are written here.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"bench": name, "at": at, "seed": seed, "runs": runs, "machine": machine()}
    if taken := record.keys() & figures.keys():
        raise ValueError(f"figures need other names than {', '.join(taken)}")
    path.write_text(json.dumps({**record, **figures}, indent=2) + "\n", encoding="utf-8")
    return path
