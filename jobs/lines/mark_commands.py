"""The commands `vgid lines marks`: whose marks take how much out of the registered sets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from jobs.command_session import session
from jobs.lines import marks
from jobs.lines.client_option import ClientOption, line_or_exit
from jobs.lines.marks import WithheldByJob

app = typer.Typer(
    no_args_is_help=True,
    help="Marks of the forgotten: what they take out of registered sets, by job; drop them, or agree to names.",
)

_Model = Annotated[str, typer.Argument(help="The model, as the catalog names it.")]
_Job = Annotated[UUID, typer.Argument(metavar="JOB", help="As `list` shows it.")]


@app.command("list")
def list_(model: _Model, client: ClientOption = None) -> None:
    """List how much of each registered set isn't trained on any more, and by which jobs."""
    with session() as s:
        found = marks.withheld_by_job(s, model, line_or_exit(s, client))
    if not found:
        typer.echo("nothing is taken out of any set")
    for place, of_place in groupby(found, key=lambda each: each.withheld.place):
        jobs = list(of_place)
        typer.echo(f"{place}: at most {sum(each.withheld.pairs for each in jobs)} of {jobs[-1].withheld.of} pairs")
        for each in jobs:
            typer.echo(f"  {'  '.join(_columns(each))}")


@app.command()
def drop(model: _Model, job: _Job) -> None:
    """Drop a job's marks: sets teach its people again. Its release stays, and so does every other job."""
    with session() as s:
        dropped = marks.drop(s, model, job)
    if not dropped:
        typer.echo("this model has no such job, or the job has no marks", err=True)
        raise typer.Exit(1)
    typer.echo(f"dropped the marks of {job}: from the next run on its people are retained as others are")


@app.command()
def agree(model: _Model, job: _Job) -> None:
    """Let a job's names count that neither the base nor a set has confirmed."""
    with session() as s:
        agreed = marks.agree(s, model, job)
    if not agreed:
        typer.echo("no name of this job waits for that", err=True)
        raise typer.Exit(1)
    typer.echo(f"agreed to the names of {job}: from the next run on they take their pairs out of the sets")


def notes(s: Session, model: str, line: str) -> Sequence[str]:
    """What an operator should look at: jobs that take much out of a set, and names that wait to be agreed to."""
    found = marks.withheld_by_job(s, model, line)
    much = {each.job_id for each in found if each.withheld.is_much}
    waiting = {each.job_id for each in found if each.withheld.to_agree}
    told = []
    if much:
        share = f"more than {marks.MUCH:.0%} of a registered set"
        told.append(f"WARNING: {len(much)} jobs take out {share}: `vgid lines marks list {model}`")
    if waiting:
        told.append(f"{len(waiting)} jobs have names that nothing confirms: `vgid lines marks list {model}`")
    return told


def _columns(found: WithheldByJob) -> tuple[str, ...]:
    withheld = found.withheld
    ended = "" if found.finished_at is None else f"{found.finished_at:%Y-%m-%d %H:%M} UTC"
    to_agree = f"{withheld.to_agree} more if you agree to its names" if withheld.to_agree else ""
    warning = f"WARNING: more than {marks.MUCH:.0%}" if withheld.is_much else ""
    columns = (str(found.job_id), ended, found.client, f"{withheld.pairs} pairs", to_agree, warning)
    return tuple(column for column in columns if column)
