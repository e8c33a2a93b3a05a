"""The commands `vgid up` and `vgid demo`."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from local.errors import LocalError
from local.home import Home
from local.stack import Stack


def up(
    port: Annotated[int | None, typer.Option(help="The API's port; else 8000 or the next free one.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where everything is kept; else VGID_HOME, else ~/.vgid.")] = None,
) -> None:
    """Run the whole service on this machine, until Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _handle_signals_like_ctrl_c()
    folder = home if home is not None else Home.from_environment().folder
    try:
        with Stack(folder, port) as stack:
            typer.echo(
                f"API          {stack.api_url}\n"
                f"API key      {stack.home.api_key}\n"
                f"Models       {stack.home.catalog}\n"
                f"Logs         {stack.home.logs}\n"
                "In another shell, these two lines set the URL and the key for `vgid` and show the models:\n"
                f"  . {shlex.quote(str(stack.home.environment))}\n"
                f"  {shlex.quote(str(Path(sys.executable).with_name('vgid')))} models\n"
                "Stop it with Ctrl-C."
            )
            signal.pause()
    except LocalError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped.")


def demo(
    picture: Annotated[Path | None, typer.Option(help="Where before and after are drawn; else in VGID_HOME.")] = None,
) -> None:
    """Watch a model forget six people: the whole service once, then everything is stopped."""
    from local.demo_run.run import run_demo

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _handle_signals_like_ctrl_c()
    try:
        run_demo(Home.from_environment().folder, picture)
    except LocalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        raise typer.Exit(130) from None


def _handle_signals_like_ctrl_c() -> None:
    """Makes SIGTERM and SIGHUP stop the stack in order, as Ctrl-C does.

    SIGHUP stays ignored under nohup. SIGINT is set too: a shell ignores it for processes that a script starts in the
    background.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
