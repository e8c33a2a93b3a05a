"""The worker's health check: python -m worker.alive ends with 0 if the reaper has made a round lately.

A container's health check can't ask Celery instead, because the worker takes no remote commands.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from jobs.settings import get_settings
from worker.work_folder import work_root


def mark() -> None:
    """Records that the worker is alive now."""
    _file().touch(mode=0o600)


def seconds_since_mark() -> float:
    """Seconds since the last `mark` of any worker of this account on this machine. Infinite if there was none."""
    try:
        return time.time() - _file().stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _file() -> Path:
    return work_root() / "alive"


if __name__ == "__main__":
    # One round may wait for a slow database. Several missed rounds in a row mean that the worker doesn't run.
    sys.exit(seconds_since_mark() > max(60.0, 6 * get_settings().reap_seconds))
