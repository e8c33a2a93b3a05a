"""The consoles: standard output for a command's result, standard error for everything else."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_PIPED_WIDTH = 160  # a pipe has none, and rich's default of 80 cuts numbers out of tables


def result_console() -> Console:
    """A console on standard output, wide enough for tables also where that is a pipe."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, soft_wrap=True, width=None if known else _PIPED_WIDTH)


def stderr_console() -> Console:
    """A console on standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Prints each line of `message` as an error on standard error."""
    console = stderr_console()
    for line in message.split("\n"):
        console.print("[bold red]error:[/bold red]", end=" ")
        console.print(line, markup=False)


def print_warning(message: str) -> None:
    """Prints `message` as a warning on standard error."""
    console = stderr_console()
    console.print("[bold yellow]warning:[/bold yellow]", end=" ")
    console.print(message, markup=False)
