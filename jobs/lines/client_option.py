"""Which line a command is about: the shared one, or the one that a client has for itself."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy.orm import Session

from jobs.clients import access
from jobs.states import SHARED_LINE

ClientOption = Annotated[
    str | None, typer.Option("--client", metavar="NAME", help="The line that this client has for itself.")
]


def line_or_exit(s: Session, client: str | None) -> str:
    """The line that the client of this name has for itself; the shared one without a name. Exits for an unknown one."""
    if client is None:
        return SHARED_LINE
    found = access.find_client(s, client.strip())
    if found is None:
        typer.echo("no client has this name; `vgid keys list` shows them", err=True)
        raise typer.Exit(1)
    return str(found.id)
