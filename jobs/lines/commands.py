"""The command `vgid lines`, for the lines of releases in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from jobs import repository
from jobs.catalog import Catalog, CatalogError, ModelEntry
from jobs.command_session import NOT_CONFIGURED, session, settings_or_exit
from jobs.lines import forgotten, mark_commands, rebuilds, releases, replay_commands, rollback
from jobs.lines.client_option import ClientOption, line_or_exit
from jobs.lines.releases import Held
from jobs.lines.replay_sets import open_replay_set
from jobs.repository import JobEnded
from jobs.states import Kind, State
from jobs.storage.blobs import FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.tables import Job, Release, ReleaseState

app = typer.Typer(
    no_args_is_help=True, help="A model's line of releases: list it, take the current one back, rebuild it."
)
app.add_typer(mark_commands.app, name="marks")
app.add_typer(replay_commands.app, name="replay-sets")

_Model = Annotated[str, typer.Argument(help="The model, as the catalog names it.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@app.command("list")
def list_(model: _Model, client: ClientOption = None) -> None:
    """List a line's releases, the newest first: what each holds, how far it has drifted, what became of it."""
    budget = _budget(model)
    with session() as s:
        line = line_or_exit(s, client)
        rows = [(release, releases.held_by(s, release.id)) for release in releases.line_of(s, model, line)]
        notes = _notes(s, model, line)
    if not rows:
        hint = "; where each client has a line of its own, name one with --client" if client is None else ""
        typer.echo(f"no release of {model}{hint}", err=True)
        raise typer.Exit(1)
    for release, held in rows:
        typer.echo("  ".join(_columns(release, held, budget)))
    for note in notes:
        typer.echo(note)


@app.command()
def revert(
    model: _Model,
    reason: Annotated[str, typer.Option(help="Why; it is kept, and the clients are told.")],
    client: ClientOption = None,
    yes: _Yes = False,
) -> None:
    """Take the current release back: the one before is current again, and whom it alone held is known again."""
    if not reason.strip():
        raise typer.BadParameter("give a reason", param_hint="--reason")
    with session() as s:
        line = line_or_exit(s, client)
        shown, returning = releases.current(s, model, line), rollback.would_return(s, model, line)
    if shown is None or returning is None:
        typer.echo(f"no release of {model} is current", err=True)
        raise typer.Exit(1)
    if returning:
        _list_jobs(f"known again, by {len(returning)} jobs", returning)
    if not yes:
        typer.confirm(f"Take release {shown.number} back?", abort=True)
    try:
        with session() as s:
            current = rollback.revert(s, model, reason.strip(), shown.id, line)
    except (LookupError, rollback.OtherRelease):
        typer.echo("another release is current by now: nothing is taken back", err=True)
        raise typer.Exit(1) from None
    typer.echo("nothing is current now" if current is None else f"release {current} is current now")


@app.command()
def rebuild(
    model: _Model,
    client: ClientOption = None,
    retain_set: Annotated[str | None, typer.Option(help="One of the model's; needed if it has several.")] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Go on without those of whom nothing is kept.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say whom it is about, and order nothing.")] = False,
    yes: _Yes = False,
) -> None:
    """Order a rebuild: everybody of whom there is a replay set is forgotten again, in one run from the base.

    Other jobs of the model wait until it has ended. Its release takes the current one's place if it passes.
    """
    entry = _entry(model)
    retained = _retain_set(entry, retain_set)
    if entry.config.evaluation.audits == "none":
        typer.echo("the catalog asks for no audits of this model: a rebuild would never be current", err=True)
        raise typer.Exit(1)
    settings = settings_or_exit()
    blobs, keyring = FileBlobStore(settings.blob_dir), Keyring(settings.secret_key_bytes)
    with session() as s:
        line = line_or_exit(s, client)
        found = forgotten.whom(
            s, model, lambda job_id, key: open_replay_set(blobs, keyring, job_id, key) is not None, line
        )
        pairs = forgotten.pairs_of(s, found.replay_sets)
    typer.echo(f"forgotten again: {len(found.replay_sets)} requests, by their replay sets")
    if found.left_out:
        _list_jobs(f"left out, and known again: {len(found.left_out)} requests, nothing is kept of", found.left_out)
    if not found.replay_sets:
        typer.echo("there is no replay set to rebuild from", err=True)
        raise typer.Exit(1)
    if dry_run:
        return
    if found.left_out and not leave_out:
        hint = (
            "ask their clients for the pairs (`repeat`, a replay set, the same subject reference), or give --leave-out"
        )
        typer.echo(hint, err=True)
        raise typer.Exit(1)
    if not yes:
        typer.confirm("Rebuild?", abort=True)
    try:
        with session() as s:
            job_id = rebuilds.order(s, model, retained, pairs, found.left_out, line).id
    except rebuilds.AlreadyOrdered:
        typer.echo("a rebuild of this line waits or runs already: see `vgid lines list`", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"ordered {job_id}; `vgid lines list {model}` shows how it goes")


@app.command()
def stop(model: _Model, client: ClientOption = None) -> None:
    """Cancel the rebuild that waits or runs: the line goes on as it is."""
    with session() as s:
        found = rebuilds.open_rebuild(s, model, line_or_exit(s, client))
        if found is None:
            typer.echo(f"no rebuild of {model} waits or runs", err=True)
            raise typer.Exit(1)
        with suppress(JobEnded):  # at this moment
            repository.request_cancel(s, found.client_id, found.id, Kind.rebuild)
    typer.echo(f"{found.id} is being cancelled")


def _budget(model: str) -> float | None:
    """How far the model's line may drift. None if the catalog doesn't say: releases outlive its entries."""
    try:
        entry = Catalog.load(settings_or_exit().catalog).model(model)
    except CatalogError:
        return None
    return None if entry is None else entry.config.verdict.utility_drop


def _entry(model: str) -> ModelEntry:
    try:
        found = Catalog.load(settings_or_exit().catalog).model(model)
    except CatalogError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(NOT_CONFIGURED) from None
    if found is None:
        typer.echo(f"the catalog has no model {model}", err=True)
        raise typer.Exit(1)
    return found


def _retain_set(entry: ModelEntry, asked: str | None) -> str:
    name = asked or entry.default_retain_set
    if name is None or name not in entry.retain_sets:
        known = ", ".join(entry.retain_sets) or "none is registered"
        raise typer.BadParameter(f"name one of the model's retain sets ({known})", param_hint="--retain-set")
    return name


def _list_jobs(title: str, jobs: Collection[UUID]) -> None:
    typer.echo(f"{title}:")
    for job_id in jobs:
        typer.echo(f"  {job_id}")


def _notes(s: Session, model: str, line: str) -> list[str]:
    """What an operator should know of the line as it stands."""
    notes = []
    current = releases.current(s, model, line)
    if current is not None and (missing := forgotten.not_held(s, model, current.id)):
        notes.append(f"{len(missing)} requests are held by no current release: `vgid lines rebuild {model} --dry-run`")
    rebuilt = rebuilds.last_rebuild(s, model, line)
    if rebuilt is not None:
        notes.append(f"rebuild {rebuilt.id}: {_in_words(rebuilt)}")
    return [*notes, *mark_commands.notes(s, model, line)]


def _in_words(job: Job) -> str:
    if job.state is State.running:
        return f"running, {job.progress:.0%}"
    return f"failed: {job.error_detail}" if job.state is State.failed else job.state.value


def _columns(release: Release, held: Sequence[Held], budget: float | None) -> tuple[str, ...]:
    of_budget = "" if budget is None else f" of {budget:.3f}"
    drift = "drift unmeasured" if release.drift is None else f"drift {release.drift:.3f}{of_budget}"
    unchecked = sum(each.still_forgotten is None for each in held)
    again = sum(each.still_forgotten is False for each in held)
    why = f"reverted: {release.reason}" if release.state is ReleaseState.reverted else release.state.value
    return (
        f"{release.number:>4}",
        f"{release.created_at:%Y-%m-%d %H:%M} UTC",
        f"base {release.base_digest[:12]}",
        f"adapter {release.adapter_sha256[:12]}",
        ", ".join([f"{len(held)} requests", f"{unchecked} unchecked", *([f"{again} known again"] if again else [])]),
        drift,
        why,
    )
