"""The command `vgid demo-model`, which builds the demo models: from nothing, or on a pretrained language tower."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from local.demo.paths import CHECKPOINTS
from local.home import Home
from terminal.tables import format_figure
from terminal.units import duration, size

if TYPE_CHECKING:
    from local.demo.training.pretrained.build import BuildPlan
    from local.demo.training.vision import ReportProgress

app = typer.Typer(
    help="The demo models: small LLaVAs that know sixty or three hundred made-up people.",
    no_args_is_help=True,
    add_completion=False,
)


class Language(Enum):
    """A demo model's language tower."""

    tiny = "tiny"
    smollm2 = "smollm2"


@app.callback()
def demo_model() -> None:
    """The demo models: small LLaVAs that know sixty or three hundred made-up people."""


LanguageOption = Annotated[
    Language, typer.Option(help="tiny: trained from nothing, sixty people. smollm2: SmolLM2-135M-Instruct, up to 300.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the models; else the package's own for tiny, demo-smollm2 in VGID_HOME for smollm2.",
        show_default=False,
    ),
]
ReferenceModelOption = Annotated[
    list[int] | None,
    typer.Option(
        metavar="PERCENT",
        min=0,
        max=50,
        help="smollm2: a reference model without so many per cent of the people; repeatable; 0: none; else 10.",
        show_default=False,
    ),
]
ReferenceModelSeedsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=9,
        help="smollm2: so many reference models of each share, each of a seed of its own; else 1.",
        show_default=False,
    ),
]
PeopleOption = Annotated[
    int | None,
    typer.Option(
        min=20, max=300, help="smollm2: whom it gets to know; the more, the longer; else 300.", show_default=False
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="smollm2: time a few steps, say what the build would take; write nothing.")
]


@app.command()
def build(
    language: LanguageOption = Language.tiny,
    out: OutOption = None,
    reference_model: ReferenceModelOption = None,
    reference_seeds: ReferenceModelSeedsOption = None,
    people: PeopleOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Build a demo model and its reference model: tiny in some eight minutes, smollm2 in hours, on two cores.

    With smollm2, data sets are written beside the models, and a build that was interrupted goes on when run again.
    """
    if language is Language.tiny:
        if reference_model or reference_seeds or people or dry_run:
            raise typer.BadParameter(
                "--reference-model, --reference-seeds, --people and --dry-run are for --language smollm2"
            )
        _build_tiny(Console(), out or CHECKPOINTS)
    else:
        _run_smollm2(out, reference_model, reference_seeds or 1, people or 300, dry_run)


def _run_smollm2(
    out: Path | None, reference_model: list[int] | None, reference_seeds: int, people: int, dry_run: bool
) -> None:
    from vgid_core.cli.exit_codes import exit_on_errors
    from vgid_core.cli.log_setup import set_up_logs

    set_up_logs()
    with exit_on_errors():
        from local.demo.training.pretrained.build import BuildPlan
        from local.demo.training.pretrained.smollm2 import read_smollm2

        reference_models = tuple(
            sorted({share for share in reference_model if share} if reference_model is not None else {10})
        )
        if reference_seeds > 1 and not reference_models:
            raise typer.BadParameter(
                "--reference-seeds says how many reference models of each kind there are; --reference-model 0 says none"
            )
        plan = BuildPlan.of(read_smollm2(), reference_models, people, reference_seeds)
        if dry_run:
            _print_estimate(Console(), plan)
        else:
            _build_pretrained(Console(), plan, out or Home.from_environment().folder / "demo-smollm2")


def _build_tiny(console: Console, out: Path) -> None:
    # Imported late: torch takes seconds to load, and `--help` doesn't need it.
    from local.demo.training.build import BASE_NAME
    from local.demo.training.build import build as build_checkpoints
    from local.demo.training.measure import FIGURES, missed_bars

    for line in (
        "Trains a vision tower on random faces, then the demo model (sixty made-up people)",
        "and its reference model (without the six whom the demo forgets) side by side.",
        f"Seed fixed, nothing downloaded. Writes into {out}",
    ):
        console.print(line, soft_wrap=True, highlight=False)
    started = time.monotonic()
    with _bars(console) as report:
        built = build_checkpoints(out, report)
    table = Table("", *(name.replace("_", "-") for name in built))
    for figure, meaning in FIGURES.items():
        table.add_row(meaning, *(format_figure(one.figures[figure]) for one in built.values()))
    console.print(table)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    missed = missed_bars(built[BASE_NAME].figures)
    if missed:
        console.print(f"[red]The base misses its bar for: {', '.join(missed)}. Don't ship it.")
        raise typer.Exit(1)


def _build_pretrained(console: Console, plan: BuildPlan, out: Path) -> None:
    from local.demo.training.pretrained.build import build as build_pretrained

    people = plan.census.people
    for line in (
        f"Trains {plan.tower.name} with a vision tower to know {people} made-up people, and its reference models.",
        f"Interrupted, it goes on when run again. Writes into {out}",
    ):
        console.print(line, soft_wrap=True, highlight=False)
    with _bars(console) as report:
        built = build_pretrained(out, plan, report)
    for name, model in built.items():
        table = Table("", name.replace("_", "-"))
        for figure, meaning in model.meanings(plan.census).items():
            table.add_row(meaning, format_figure(model.figures[figure]))
        console.print(table)
    if not built:
        console.print("Everything is there already.")


def _print_estimate(console: Console, plan: BuildPlan) -> None:
    from local.demo.training.pretrained.estimate import estimate

    with _bars(console) as report:
        found = estimate(plan, report)
    parts = ", ".join(f"{seconds:.2f}" for seconds in found.part_seconds)
    for line in (
        f"device     {found.device}",
        f"a step     {found.step_seconds:.2f} s, of {plan.recipe.batch} examples ({parts} s for {found.part} each)",
        f"training   {duration(found.training_seconds)}: {plan.recipe.steps} steps, {len(plan.models())} models",
        f"drawing    {duration(found.drawing_seconds)}",
        f"memory     {size(found.memory_bytes)} so far",
        f"disk       {size(found.disk_bytes)} and the data sets",
        "Measuring the finished models comes on top. Nothing was trained or written.",
    ):
        console.print(line, soft_wrap=True, highlight=False)


@contextmanager
def _bars(console: Console) -> Iterator[ReportProgress]:
    """Shows a progress bar for each task that is reported."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, int] = {}

        def report(task: str, share: float) -> None:
            if task not in tasks:
                tasks[task] = progress.add_task(task, total=1.0)
            progress.update(progress.task_ids[tasks[task]], completed=share)

        yield report
