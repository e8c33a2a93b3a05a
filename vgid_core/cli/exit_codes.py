"""Exit codes: 0 success, 1 the run failed, 2 wrong usage or unreadable data, 3 a target is missed, 130 interrupted.

A server that is asked adds those of the service's commands: 3 it refuses, 4 it can't be reached or is at fault.

An error prints a line on standard error.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from terminal.console import print_error, stderr_console
from vgid_core.cli.inputs.run_file import RunFileError
from vgid_core.data.pairs import DataError
from vgid_core.errors import UnlearnError
from vgid_core.serving.errors import EndpointError

TARGETS_MISSED = 3  # what was asked for is there, but the verdict on it doesn't pass


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Turns our errors and interrupts into a printed line and an exit code. SIGTERM acts as Ctrl-C.

    SIGINT is handled explicitly, since shells make scripts' background processes ignore it.
    """
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except (RunFileError, DataError) as error:
        _stop(str(error), 2)
    except EndpointError as error:
        _stop(str(error), error.exit_code)
    except UnlearnError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt as stopped:  # its text, if any, says how to resume
        stderr_console().print("Stopped.", *stopped.args, markup=False)
        raise typer.Exit(130) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(message: str, code: int) -> NoReturn:
    print_error(message)
    raise typer.Exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
