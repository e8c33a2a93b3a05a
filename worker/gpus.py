"""Which accelerators this worker may use, found without loading a driver into this process."""

from __future__ import annotations

import os
import shutil
import subprocess


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists, else the indices of all NVIDIA GPUs; empty where there is none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listing = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    if listing.returncode != 0:
        return []
    return [
        str(index) for index, _ in enumerate(line for line in listing.stdout.splitlines() if line.startswith("GPU"))
    ]
