"""The command `vgid database`, for the tables in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs.command_session import exit_on_database_error, settings_or_exit
from migrations.roles import RoleUnusable, Room, grant
from migrations.runner import upgrade

PASSWORDS = {Room.api: "VGID_API_ROLE_PASSWORD", Room.worker: "VGID_WORKER_ROLE_PASSWORD"}

database = typer.Typer(no_args_is_help=True, help="The database's tables.")


@database.callback()
def _database() -> None:
    """Keeps `upgrade` a subcommand. Without a callback, Typer would drop the name of the only command."""


@database.command("upgrade")
def upgrade_(
    api_role: Annotated[
        str | None,
        typer.Option(help=f"The API's database role: made if missing, with the password in {PASSWORDS[Room.api]}."),
    ] = None,
    worker_role: Annotated[
        str | None, typer.Option(help=f"The workers' role, likewise, with that in {PASSWORDS[Room.worker]}.")
    ] = None,
) -> None:
    """Create the tables, or bring them up to date, and grant the roles what they need. Safe to run at every start."""
    settings = settings_or_exit()
    with exit_on_database_error():
        upgrade(settings.database_url)
        for room, role in ((Room.api, api_role), (Room.worker, worker_role)):
            if role is not None:
                _grant(settings.database_url, room, role)
    typer.echo("the database is up to date")


def _grant(database_url: str, room: Room, role: str) -> None:
    try:
        grant(database_url, room, role, os.environ.get(PASSWORDS[room]) or None)
    except RoleUnusable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
