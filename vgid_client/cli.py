"""The command `vgid`: this package's own commands, and those that other packages register as entry points.

Exit codes: 0 done · 1 the job failed or was cancelled · 2 wrong usage or an unreadable file · 3 the service refused ·
4 the service can't be reached or is at fault · 5 the download's sha256 is wrong, or a release isn't signed ·
70 internal error · 130 interrupted.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import typer

from terminal.console import print_error
from vgid_client.commands import app
from vgid_client.errors import VgidError

GROUP = "vgid.commands"


def main() -> None:
    """Runs the command line. An error becomes one line on standard error, without a traceback."""
    for entry in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        if source := _source_of(entry):
            _register(entry, source)
    try:
        app(prog_name="vgid")
    except VgidError as error:
        _stop(str(error), error.exit_code)
    except Exception as error:  # its message isn't shown, because it could quote a question or a name
        place = _raised_at(error)
        _stop(f"internal error: {type(error).__name__} in {place}", 70)


def _source_of(entry: EntryPoint) -> Path | None:
    """The file of the command's module. None if its package isn't there, as `compare` isn't in the service's image."""
    try:
        spec = find_spec(entry.module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _register(entry: EntryPoint, source: Path) -> None:
    """Lists a command without importing it. Its package is imported when the command is called."""
    app.command(
        entry.name,
        help=_read_summary(entry, source),
        rich_help_panel="On this machine",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        add_help_option=False,
    )(_make_command(entry))


def _make_command(entry: EntryPoint) -> Callable[[typer.Context], None]:
    def call(context: typer.Context) -> None:
        try:
            found = entry.load()
        except ModuleNotFoundError as error:
            raise VgidError(f"this needs the package '{error.name}': pip install '.[embedded]'") from None
        if not isinstance(found, typer.Typer):
            command, found = found, typer.Typer(add_completion=False)
            found.command()(command)
        found.pretty_exceptions_enable = False
        found(args=context.args, prog_name=f"vgid {entry.name}")

    return call


def _read_summary(entry: EntryPoint, source: Path) -> str:
    """The first docstring line of the command's function, else of its module. It is read from the source."""
    module = ast.parse(source.read_text(encoding="utf-8"))
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return _first_line(ast.get_docstring(node))
    return _first_line(ast.get_docstring(module))


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown place" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"


def _stop(message: str, code: int) -> None:
    print_error(message)
    sys.exit(code)


if __name__ == "__main__":
    main()
