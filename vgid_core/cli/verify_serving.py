"""`vgid verify-serving`: asks an OpenAI-compatible server as its users would; does the forgetting arrive?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from terminal.console import stderr_console
from vgid_core.cli.exit_codes import exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.paths import resolved
from vgid_core.cli.inputs.sources import read_pairs
from vgid_core.data.facts import Fact, fact_of
from vgid_core.data.pairs import DataError, PairSet

if TYPE_CHECKING:
    from vgid_core.cli.serving_statement import StatementWriter
    from vgid_core.serving.check import ServingCheck

KEY_VARIABLE = "VGID_ENDPOINT_KEY"
_STYLES = {"fault": "red", "warning": "yellow", "ok": "green", "untested": "dim"}
_VERDICTS = {
    "arrives": "The forgetting arrives.",
    "does-not-arrive": "The forgetting does not arrive.",
    "inconclusive": "Nobody can tell from these answers whether the forgetting arrives.",
}


def verify_serving(
    endpoint: Annotated[str, typer.Option(metavar="URL", help="The server, with or without /v1.")],
    adapter: Annotated[str, typer.Option(metavar="NAME", help="The name under which the adapter is served.")],
    pairs: Annotated[str, typer.Option(metavar="SOURCE", help="Forgotten pairs; a line may name its fact.")],
    control: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Pairs about people who must stay known.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The base's name; else the one that the server gives.", show_default=False),
    ] = None,
    adapter_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The adapter's own files: its evidence and name.", show_default=False),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Have the server load it anew, which takes it away for a moment.")
    ] = False,
    sign_key: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Sign the result with this Ed25519 key.", show_default=False),
    ] = None,
    statement: Annotated[
        Path | None,
        typer.Option(metavar="FILE.intoto.json", help="Where the signed result goes.", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a server as its users would, and say whether the forgetting arrives; ends with 0 only if it does."""
    with exit_on_errors():
        writer = _writer(sign_key, statement)
        found = _check(endpoint, adapter, pairs, control, base, adapter_folder, reload)
        said = found.as_json()
        signed = {} if writer is None else {"statement_salt": writer.write(said)}
        if as_json:
            typer.echo(json.dumps(said | signed, indent=2))
        else:
            _print(found)
        if writer is not None and not as_json:
            typer.echo(f"{writer.path} says so, signed by key {writer.keyid[:16]}.")
            typer.echo(f"Its salt, which opens whom it is about; no file holds it: {signed['statement_salt']}")
        raise typer.Exit(0 if found.verdict == "arrives" else 1)


def _writer(key: Path | None, path: Path | None) -> StatementWriter | None:
    """None without both options. Raises DataError for one alone, and as `StatementWriter.of` does."""
    if key is None and path is None:
        return None
    if key is None:
        raise DataError("needs --sign-key KEY.pem, by which the statement is signed", "--statement")
    if path is None:
        raise DataError("needs --statement FILE.intoto.json, where the statement goes", "--sign-key")
    # Imported late: it brings what signs along.
    from vgid_core.cli.serving_statement import StatementWriter

    return StatementWriter.of(key, path)


def _check(
    endpoint: str,
    adapter: str,
    source: str,
    control: str | None,
    base: str | None,
    folder: Path | None,
    reload: bool,
) -> ServingCheck:
    from vgid_core.serving.check import AskedSet, check_serving
    from vgid_core.serving.endpoint import Endpoint
    from vgid_core.serving.evidence import AdapterEvidence

    with Endpoint(endpoint, os.environ.get(KEY_VARIABLE) or None) as server:
        evidence = None if folder is None else AdapterEvidence.read(folder)
        pairs = AskedSet(*_read("pairs", source))
        others = None if control is None else AskedSet(*_read("control", control, pairs.pairs))
        with stderr_console().status("asking") as status:
            return check_serving(server, adapter, base, pairs, others, evidence, reload, status.update)


def _read(name: str, source: str, forgotten: PairSet | None = None) -> tuple[PairSet, tuple[Fact, ...]]:
    """The set of an option, and its facts without those about photos of `forgotten`.

    Raises DataError naming the place, or the option and the path.
    """
    path = resolved(source, Path.cwd())
    try:
        pairs = read_pairs(path, name)
        asked = pairs if forgotten is None else pairs.without_images_of(forgotten)
        return pairs, tuple(map(fact_of, asked))
    except DataError as error:
        if error.field != name:
            raise
        raise DataError(f"{source}: {error.reason}", f"--{name}") from error.__cause__


def _print(found: ServingCheck) -> None:
    console = Console(highlight=False)
    table = Table("", "what", "seen", "what to do", box=box.SIMPLE_HEAD)
    for finding in found.findings:
        level = Text(finding.level, style=_STYLES[finding.level])
        table.add_row(level, finding.kind, Text(finding.message), Text(finding.advice))
    console.print(table)
    if found.control is None:
        console.print("Whether it still answers about anybody else wasn't asked: give --control.")
    console.print(_VERDICTS[found.verdict])
