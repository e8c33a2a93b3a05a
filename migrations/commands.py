"""`vgid database`: the tables in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

import typer

from jobs.commands import database_errors, settings_or_exit
from migrations.runner import upgrade

database = typer.Typer(no_args_is_help=True, help="The database's tables.")


@database.callback()
def _database() -> None:
    """Keeps `upgrade` a subcommand although it is the only one."""


@database.command("upgrade")
def upgrade_() -> None:
    """Create the tables, or bring them up to date. Safe to run at every start."""
    settings = settings_or_exit()
    with database_errors():
        upgrade(settings.database_url)
    typer.echo("the database is up to date")
