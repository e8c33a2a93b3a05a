"""The command `vgid database`, for the tables in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

import typer

from jobs.command_session import exit_on_database_error, settings_or_exit
from migrations.runner import upgrade

database = typer.Typer(no_args_is_help=True, help="The database's tables.")


@database.callback()
def _database() -> None:
    """Keeps `upgrade` a subcommand. Without a callback, Typer would drop the name of the only command."""


@database.command("upgrade")
def upgrade_() -> None:
    """Create the tables, or bring them up to date. Safe to run at every start."""
    settings = settings_or_exit()
    with exit_on_database_error():
        upgrade(settings.database_url)
    typer.echo("the database is up to date")
