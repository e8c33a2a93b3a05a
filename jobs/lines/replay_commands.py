"""The commands `vgid lines replay-sets`: what is kept of whom, whether it still holds, and its end."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from jobs.command_session import session
from jobs.lines import replay_sets
from jobs.lines.client_option import ClientOption, line_or_exit
from jobs.lines.replay_sets import ReplaySetOfLine

app = typer.Typer(no_args_is_help=True, help="Replay sets of a line: list them with their clients, or end one.")

_Model = Annotated[str, typer.Argument(help="The model, as the catalog names it.")]
_Job = Annotated[UUID, typer.Argument(metavar="JOB", help="As `list` shows it.")]


@app.command("list")
def list_(model: _Model, client: ClientOption = None) -> None:
    """List the replay sets of which the current release, or a rebuild, makes use."""
    with session() as s:
        found = replay_sets.of_line(s, model, line_or_exit(s, client))
    if not found:
        typer.echo("nothing is kept of anybody")
    for each in found:
        typer.echo("  ".join(_columns(each)))


@app.command()
def end(model: _Model, job: _Job, yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False) -> None:
    """End a job's replay set, for good: nothing checks its people any more, and a rebuild leaves them out.

    For a replay set that nobody can forget, so that every rebuild misses its targets. Its client sees that it has
    ended.
    """
    if not yes:
        typer.confirm(
            "Its people aren't forgotten again by later requests, and come back. End the replay set?", abort=True
        )
    with session() as s:
        ended = replay_sets.end_replay_set_of_model(s, model, job)
    if not ended:
        typer.echo("this model has no such job, or nothing is kept of it", err=True)
        raise typer.Exit(1)
    typer.echo(f"ended the replay set of {job}: its key is gone, and its file follows within seconds")


def _columns(found: ReplaySetOfLine) -> tuple[str, ...]:
    words = {True: "still forgotten", False: "known again", None: "no measure: wasn't forgotten when it was made"}
    holds = words[found.still_forgotten] if found.checked_in is not None else "in no current release"
    checked = "" if found.checked_in is None else f"checked in release {found.checked_in}"
    kept = f"{found.pairs} pairs until {found.expires_at:%Y-%m-%d}"
    columns = (str(found.job_id), found.client, kept, holds, checked)
    return tuple(column for column in columns if column)
