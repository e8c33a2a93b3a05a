"""The command `vgid lines`, for the lines of releases in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.command_session import session
from jobs.lines import releases
from jobs.tables import Release, ReleaseState

app = typer.Typer(no_args_is_help=True, help="A model's line of releases: list it, take the current one back.")

_Model = Annotated[str, typer.Argument(help="The model, as the catalog names it.")]


@app.command("list")
def list_(model: _Model) -> None:
    """List a model's releases, the newest first: what each holds, how far it has drifted, what became of it."""
    with session() as s:
        rows = [(release, releases.held_by(s, release.id)) for release in releases.line_of(s, model)]
    if not rows:
        typer.echo(f"no release of {model}", err=True)
        raise typer.Exit(1)
    for release, held in rows:
        unchecked = sum(each.still_forgotten is None for each in held)
        typer.echo("  ".join(_columns(release, len(held), unchecked)))


@app.command()
def revert(
    model: _Model,
    reason: Annotated[str, typer.Option(help="Why; it is kept, and the clients are told.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Take the current release back: the one before is current again, and whom it alone held is known again."""
    if not reason.strip():
        raise typer.BadParameter("give a reason", param_hint="--reason")
    with session() as s:
        returning = releases.would_return(s, model)
        if returning is None:
            typer.echo(f"no release of {model} is current", err=True)
            raise typer.Exit(1)
        typer.echo(f"known again, by {len(returning)} jobs:")
        for job_id in returning:
            typer.echo(f"  {job_id}")
        if not yes:
            typer.confirm("Take it back?", abort=True)
        current = releases.revert(s, model, reason.strip())
    typer.echo("nothing is current now" if current is None else f"release {current} is current now")


def _columns(release: Release, requests: int, unchecked: int) -> tuple[str, ...]:
    drift = "drift unmeasured" if release.drift is None else f"drift {release.drift:.3f}"
    why = f"reverted: {release.reason}" if release.state is ReleaseState.reverted else release.state.value
    return (
        f"{release.number:>4}",
        f"{release.created_at:%Y-%m-%d %H:%M} UTC",
        f"base {release.base_digest[:12]}",
        f"adapter {release.adapter_sha256[:12]}",
        f"{requests} requests, {unchecked} unchecked",
        drift,
        why,
    )
