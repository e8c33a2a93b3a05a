"""The settings and the database session of the operator's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from jobs.database import make_engine, session_factory
from jobs.settings import Settings, get_settings

NOT_CONFIGURED = 2


def settings_or_exit() -> Settings:
    """Reads the settings. If some are missing or wrong, prints a line for each and ends the command."""
    try:
        return get_settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "VGID_" + "_".join(str(part) for part in problem["loc"]).upper() if problem["loc"] else "settings"
            typer.echo(f"{name}: {problem['msg']}", err=True)
        raise typer.Exit(NOT_CONFIGURED) from None


@contextmanager
def session() -> Iterator[Session]:
    """A transaction in the database, for one command. Errors of the database end the command with a line."""
    engine = make_engine(settings_or_exit())
    try:
        with exit_on_database_error(), session_factory(engine).begin() as s:
            yield s
    finally:
        engine.dispose()


@contextmanager
def exit_on_database_error() -> Iterator[None]:
    """Turns a database error into one line and exit code 1, without a traceback."""
    try:
        yield
    except OperationalError:
        typer.echo("the database named by VGID_DATABASE_URL doesn't answer", err=True)
        raise typer.Exit(1) from None
    except ProgrammingError:
        typer.echo("the database has no tables yet, or outdated ones: run `vgid database upgrade`", err=True)
        raise typer.Exit(1) from None
