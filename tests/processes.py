"""Functions about processes that may end at any moment."""

from __future__ import annotations

import psutil


def has_ended(process: psutil.Process) -> bool:
    """Whether the process has ended. A zombie counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command_line(process: psutil.Process) -> str:
    """The process's command line, or "" if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
