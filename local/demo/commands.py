"""`vgid demo-model`: the demo model, rebuilt from nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from local.demo.paths import CHECKPOINTS

app = typer.Typer(
    help="The embedded demo model: a small LLaVA that knows sixty made-up people.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def demo_model() -> None:
    """The embedded demo model: a small LLaVA that knows sixty made-up people."""


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for base/ and retain_only_twin/.")] = CHECKPOINTS,
) -> None:
    """Rebuild the demo model and its retain-only twin from nothing: some seven minutes on two cores."""
    # Torch takes seconds to load: not for `--help`.
    from local.demo.training.build import BASE_NAME
    from local.demo.training.build import build as build_checkpoints
    from local.demo.training.measure import FIGURES, missed_bars

    console = Console()
    for line in (
        "Trains a vision tower on random faces, then the demo model (sixty made-up people)",
        "and its retain-only twin (without the six whom the demo forgets) side by side.",
        f"Seed fixed, nothing downloaded. Writes into {out}",
    ):
        console.print(line, soft_wrap=True, highlight=False)
    started = time.monotonic()
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, int] = {}

        def tell(doing: str, share: float) -> None:
            if doing not in tasks:
                tasks[doing] = progress.add_task(doing, total=1.0)
            progress.update(progress.task_ids[tasks[doing]], completed=share)

        built = build_checkpoints(out, tell)
    table = Table("", *(name.replace("_", "-") for name in built))
    for figure, meaning in FIGURES.items():
        table.add_row(meaning, *(f"{one.figures[figure]:.3f}" for one in built.values()))
    console.print(table)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    missed = missed_bars(built[BASE_NAME].figures)
    if missed:
        console.print(f"[red]The base misses its bar for: {', '.join(missed)}. Don't ship it.")
        raise typer.Exit(1)
