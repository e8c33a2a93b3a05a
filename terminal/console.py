"""The console for everything but a command's result: standard error."""

from __future__ import annotations

from rich.console import Console


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
