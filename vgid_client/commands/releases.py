"""The commands about what is to be served: a model's current release."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from terminal.console import print_error
from vgid_client import render
from vgid_client.commands.shared import AsJson, app, client_of, out
from vgid_client.errors import VgidError
from vgid_client.serving_folder import export_release, pull
from vgid_client.signed_release import pinned_keys

releases = typer.Typer(no_args_is_help=True, help="What is to be served of a model: show it, put it before a server.")
app.add_typer(releases, name="releases", rich_help_panel="Releases")

_Model = Annotated[str, typer.Argument(help="One of `vgid models`.")]
_Folder = Annotated[Path, typer.Argument(help="The folder that the server reads adapters from.")]
_Keys = Annotated[
    Path,
    typer.Option(
        "--keys",
        metavar="FILE",
        envvar="VGID_KEYS",
        help="The service's public keys, as you have kept them: what doesn't hold by these is put nowhere.",
    ),
]


@releases.command()
def show(
    context: typer.Context,
    model: _Model,
    to: Annotated[Path | None, typer.Option(metavar="FILE.zip", help="Download its adapter there, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's current release: which adapter is to be served, and whom of yours it holds."""
    with client_of(context) as client:
        found = client.release(model)
        if to is not None:
            client.download_release(model, to)
    if as_json:
        out.print_json(found.model_dump_json())
    else:
        out.print(render.release_table(found))
    if to is not None:
        out.print(str(to), soft_wrap=True)


@releases.command()
def export(context: typer.Context, model: _Model, folder: _Folder, keys: _Keys) -> None:
    """Verify the current release, put it into a server's folder of adapters, and take the one before away."""
    with client_of(context) as client:
        path, new = export_release(client, model, folder, keys)
    out.print(f"{path}{'' if new else '  (it was there)'}", soft_wrap=True)


@releases.command("pull")
def pull_(
    context: typer.Context,
    model: _Model,
    folder: _Folder,
    keys: _Keys,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and follow each new release.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How often to look.")] = 60,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Run `vgid verify-serving` there after each change.")
    ] = None,
    pairs: Annotated[str | None, typer.Option(metavar="SOURCE", help="Forgotten pairs, for that.")] = None,
) -> None:
    """Fetch and verify the current release for a server's machine, and check what is served after each change."""
    pinned_keys(keys)
    if (endpoint is None) != (pairs is None):
        raise typer.BadParameter("--endpoint and --pairs go together: the server is asked about these pairs")
    failed = False

    def changed(path: Path) -> None:
        nonlocal failed
        out.print(str(path), soft_wrap=True)
        if endpoint is not None and pairs is not None:
            failed = not _arrives(endpoint, pairs, path)
            if failed:
                print_error(f"the forgetting of {path.name} doesn't arrive at {endpoint}")

    def told(error: VgidError | OSError) -> None:
        if not watch:
            raise error
        print_error(str(error))

    with client_of(context) as client:
        pull(client, model, folder, keys, _pause(every) if watch else lambda: False, changed, told)
    if failed:
        raise typer.Exit(1)


@releases.command()
def combine(
    context: typer.Context,
    model: _Model,
    keys: _Keys,
    others: Annotated[
        list[Path], typer.Option("--with", metavar="FOLDER", help="An adapter of your own for the same base.")
    ],
    to: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the one adapter goes.")],
    rank: Annotated[int | None, typer.Option(min=1, help="The largest that it may have.")] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="RUN.toml", help="Judge the result by this run file's sets.")
    ] = None,
) -> None:
    """Fetch and verify the current release and make one adapter of it and your own, by `vgid combine`."""
    with client_of(context) as client, TemporaryDirectory() as folder:
        path, _ = export_release(client, model, Path(folder), keys)
        typed = [str(path), *(part for other in others for part in ("--with", str(other))), "--out", str(to)]
        typed += [] if rank is None else ["--rank", str(rank)]
        typed += [] if audit is None else ["--audit", str(audit)]
        code = _run_of_the_core("combine", typed)
    if code:
        raise typer.Exit(code)


def _pause(seconds: float) -> Callable[[], bool]:
    def wait() -> bool:
        time.sleep(seconds)
        return True

    return wait


def _arrives(endpoint: str, pairs: str, adapter: Path) -> bool:
    """Whether the forgetting arrives."""
    typed = ["--endpoint", endpoint, "--adapter", adapter.name, "--pairs", pairs, "--adapter-folder", str(adapter)]
    return _run_of_the_core("verify-serving", typed) == 0


def _run_of_the_core(command: str, typed: list[str]) -> int:
    """Runs a command of the core as a program of its own, since the client imports nothing of it. Its exit code."""
    program = [sys.executable, "-m", "vgid_client.cli", command, *typed]
    return subprocess.run(program, check=False).returncode  # noqa: S603  (what its user has typed)
