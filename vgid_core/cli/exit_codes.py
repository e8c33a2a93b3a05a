"""How a command ends: one line on standard error, and an exit code that says whose fault it was.

0 done · 1 the run failed · 2 wrong usage or unreadable data · 130 interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console

from vgid_core.cli.run_file import RunFileError
from vgid_core.data.pairs import DataError
from vgid_core.errors import UnlearnError


def notices() -> Console:
    """Where everything goes that isn't the result: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def ended_in_words() -> Iterator[None]:
    """Turns what a command can end with into a line and an exit code; SIGTERM ends it as Ctrl-C does.

    So does SIGINT where a shell had it ignored, as it does for what a script starts in the background.
    """
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except (RunFileError, DataError) as error:
        _stop(str(error), 2)
    except UnlearnError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt as stopped:  # its text, if it has one, says how to go on
        notices().print("Stopped.", *stopped.args, markup=False)
        raise typer.Exit(130) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(message: str, code: int) -> NoReturn:
    console = notices()
    for line in message.split("\n"):
        console.print("[bold red]error:[/bold red]", end=" ")
        console.print(line, markup=False)
    raise typer.Exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
