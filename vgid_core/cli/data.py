"""`vgid data`: checks a run's sets, in any format, before it starts.

Prints places and counts, never the content of a pair.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from terminal.assignments import assignments
from terminal.console import print_error, stderr_console
from vgid_core.cli.inputs.run_file import RunFileError, require_model
from vgid_core.config import EvaluationConfig
from vgid_core.data.check import DataReport, Finding, Lengths, SetSummary, TextCounter, check_data
from vgid_core.data.pairs import DataError
from vgid_core.data.readers import ReadResult, read
from vgid_core.errors import UnlearnError

app = typer.Typer(
    help="Forget, retain and evaluation sets: read in every format, and checked before a run.",
    no_args_is_help=True,
    add_completion=False,
)
_MAX_PLACES = 3
_ROLES = ("forget", "retain", "utility")


@app.callback()
def data() -> None:
    """Forget, retain and evaluation sets: read in every format, and checked before a run."""


@app.command()
def check(
    forget: Annotated[str, typer.Argument(metavar="FORGET", help="What is to be forgotten: a path, or format:path.")],
    retain: Annotated[str | None, typer.Option(help="What must stay.")] = None,
    utility: Annotated[str | None, typer.Option(help="What is measured to see that nothing else suffers.")] = None,
    probe: Annotated[list[str] | None, typer.Option(metavar="NAME=SOURCE", help="Only evaluated. Repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub id: lengths in its tokens.")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="The evaluation's: a longer answer can't be said whole.")
    ] = EvaluationConfig().max_new_tokens,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, with every place.")] = False,
) -> None:
    """Check the sets of a run; ends with 1 if there is an error, 0 if there are only warnings."""
    probes = _probes(probe)
    console = Console(highlight=False)
    with stderr_console().status("reading and checking"):
        try:
            require_model("--model", model)
            texts = _text_counter(model)
        except (UnlearnError, RunFileError) as error:
            print_error(str(error))
            raise typer.Exit(2) from None
        report = check_data(
            _read(forget, "forget"),
            _read(retain, "retain") if retain is not None else None,
            _read(utility, "utility") if utility is not None else None,
            [_read(source, name) for name, source in probes.items()],
            texts,
            max_new_tokens,
        )
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print(report, console)
    if report.has_errors:
        raise typer.Exit(1)


def _read(source: str, name: str) -> ReadResult:
    """Reads a source. If it can't be read at all, its error becomes a finding."""
    try:
        return read(source, name)
    except DataError as error:
        return ReadResult(name, (error,))


def _text_counter(model: str | None) -> TextCounter | None:
    if model is None:
        return None
    from vgid_core.models.token_counter import TokenCounter  # torch takes seconds to load

    return TokenCounter(model)


def _probes(given: list[str] | None) -> dict[str, str]:
    probes = assignments(given, "--probe")
    if probes.keys() & set(_ROLES):
        raise typer.BadParameter("needs another name than " + ", ".join(_ROLES), param_hint="--probe")
    return probes


def _print(report: DataReport, console: Console) -> None:
    console.print(_sets_table(report))
    for one in report.sets:
        for reason, count in one.left_out.items():
            console.print(f"{one.name}: left out {count} {reason}", markup=False, soft_wrap=True)
    if report.findings:
        console.print(_findings_table(report.findings))
    errors, warnings = (
        sum(len(f.places) for f in report.findings if f.level == level) for level in ("error", "warning")
    )
    console.print(f"errors: {errors}, warnings: {warnings}" if report.findings else "nothing found")


def _sets_table(report: DataReport) -> Table:
    table = Table(Column("set", no_wrap=True))
    for heading in ("pairs", "images", "MB", "pixels", f"question, {report.unit}", f"answer, {report.unit}"):
        table.add_column(heading, justify="right")
    for one in report.sets:
        size = f"{one.image_bytes / 1e6:.1f}"
        lengths = (_lengths(one.questions), _lengths(one.answers))
        table.add_row(one.name, str(one.pairs), str(one.images), size, _pixels(one), *lengths)
    return table


def _findings_table(findings: tuple[Finding, ...]) -> Table:
    table = Table("", "kind", "what", "where")
    for finding in findings:
        style = "red" if finding.level == "error" else "yellow"
        where = ", ".join(finding.places[:_MAX_PLACES])
        more = len(finding.places) - _MAX_PLACES
        where += f" and {more} more" if more > 0 else ""
        table.add_row(f"[{style}]{finding.level}[/]", finding.kind, finding.message, Text(where))
    return table


def _lengths(lengths: Lengths | None) -> str:
    return "" if lengths is None else f"{lengths.smallest} - {lengths.median:g} - {lengths.largest}"


def _pixels(one: SetSummary) -> str:
    sizes = [f"{size[0]}x{size[1]}" for size in (one.smallest_image, one.largest_image) if size is not None]
    return " - ".join(dict.fromkeys(sizes))
