"""The commands that show and fetch what a job leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from terminal.console import stderr_console
from vgid_client import render
from vgid_client.commands.shared import AsJson, JobId, app, client_of, find, out
from vgid_client.errors import DataFileError


@app.command(rich_help_panel="Requests")
def metrics(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show what was measured before and after forgetting."""
    with client_of(context) as client:
        rows = client.metrics(find(client, job))
    if as_json:
        out.print_json(json.dumps([row.model_dump(mode="json") for row in rows]))
    else:
        out.print(render.metrics_table(rows) if rows else "nothing measured yet")


@app.command(rich_help_panel="Requests")
def report(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.html.")] = None,
) -> None:
    """Save the evidence as a page to read and print."""
    with client_of(context) as client:
        path = to or Path(f"{job}.html")
        path.write_text(client.report(job), encoding="utf-8")
    out.print(str(path), soft_wrap=True)


@app.command(rich_help_panel="Requests")
def evidence(context: typer.Context, job: JobId) -> None:
    """Print everything that the audits found, and the verdict, as JSON."""
    with client_of(context) as client:
        out.print_json(json.dumps(client.evidence(find(client, job))))


@app.command(rich_help_panel="Requests")
def download(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.zip.")] = None,
) -> None:
    """Download the adapter, resume an earlier download, and check the sha256."""
    with client_of(context) as client:
        found = client.get(job)
        path = client.download(found, to or Path(f"{found.id}.zip"))
    out.print(f"{path}  sha256 {found.artifact.sha256 if found.artifact else ''}", soft_wrap=True)
    if found.outcome != "forgotten":
        why = "its verdict hasn't passed" if found.outcome else "nothing was judged"
        stderr_console().print(f"[bold red]Don't serve it as if the people were forgotten:[/bold red] {why}.")


@app.command(rich_help_panel="Requests")
def receipt(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.receipt.json.")] = None,
) -> None:
    """Fetch the signed receipt of what of a job was deleted when; `vgid verify` checks it."""
    with client_of(context) as client:
        found = client.receipt(find(client, job))
    _write_json(found, to or Path(f"{job}.receipt.json"))


@app.command(rich_help_panel="Requests")
def signing_keys(
    context: typer.Context,
    to: Annotated[Path, typer.Option(help="Where to.")] = Path("vgid-keys.json"),
) -> None:
    """Fetch the service's public keys, for `vgid verify --keys`."""
    with client_of(context) as client:
        found = client.signing_keys()
    _write_json(found, to)


def _write_json(document: Any, path: Path) -> None:
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from None
    out.print(path, soft_wrap=True)


@app.command(rich_help_panel="Releases")
def replay_set(
    context: typer.Context,
    job: JobId,
    end: Annotated[bool, typer.Option("--end", help="Destroy its key and delete it, for good.")] = False,
    receipt_to: Annotated[Path | None, typer.Option(help="Save the receipt of its deletion there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is kept of a job so that its people stay forgotten, or end that."""
    with client_of(context) as client:
        if end:
            client.end_replay_set(job)
        found = client.replay_set(job)
        receipt = None if receipt_to is None else client.replay_set_receipt(job)
    if receipt_to is not None:
        receipt_to.write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
    if as_json:
        out.print_json(found.model_dump_json())
    else:
        out.print(render.replay_set_text(found), soft_wrap=True)
