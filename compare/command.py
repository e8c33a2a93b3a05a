"""`vgid compare`: methods of unlearning side by side on one dataset."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from compare.contenders import known
from compare.plan import Budget, ComparisonData, ComparisonPlan
from compare.run_file import ComparisonRunFile
from vgid_core.cli import options
from vgid_core.cli.config_errors import error_lines
from vgid_core.cli.exit_codes import exit_on_errors, stderr_console
from vgid_core.cli.flags import Setting
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_folder, require_no_adapter
from vgid_core.cli.run_file import RunFileError, assignments, flag_settings, load_run_as
from vgid_core.cli.sources import read_for_attacks, read_run_set

_ITS_OWN = "is what a comparison sets itself"
_UNHEARD = {
    "seed": f"{_ITS_OWN}: --seeds",
    "training.learning_rate": f"{_ITS_OWN}: --learning-rates",
    "training.retain_weight": f"{_ITS_OWN}: --retain-weights",
    "training.steps": f"{_ITS_OWN}: --steps",
    "training.targets": "is nothing that a comparison hears: every run of a setting has all its steps",
}

_INSTEAD = "a comparison sets seed, learning rate, retain weight and steps itself, and ends no run early"

_Grid = Annotated[str | None, typer.Option(metavar="A,B,...", help="To try for every method.", show_default=False)]
Number = TypeVar("Number", int, float)


def compare(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE",
            help="About what is forgotten, never trained on; repeatable.",
            show_default=False,
        ),
    ] = None,
    kept: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SOURCE", help="What must stay, never trained on; repeatable.", show_default=False),
    ] = None,
    never_seen: options.NeverSeen = None,
    facts: options.Facts = None,
    twin: options.Twin = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.json, .md and .png.", show_default=False)
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Some of: " + ", ".join(known()) + "; else all.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each method's chosen setting; else 3.")] = None,
    learning_rates: _Grid = None,
    retain_weights: _Grid = None,
    steps: _Grid = None,
    device: options.Device = None,
    setting: options.Setting = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in the folder.")] = False,
) -> None:
    """Tune and run methods of unlearning on one dataset, attack the results, and show them side by side."""
    with exit_on_errors():
        settings = flag_settings({"device": device}, setting)
        _require_heard(settings)
        flags = {"model": model, "forget": forget, "retain": retain, "utility": utility, "twin": twin}
        flags |= {"never_seen": never_seen, "facts": facts}
        told = {
            "out": None if out is None else str(out),
            "kept": assignments(kept, "--kept"),
            "methods": None if methods is None else [name.strip() for name in methods.split(",")],
            "seeds": seeds,
            "learning_rates": _numbers(learning_rates, "--learning-rates", float),
            "retain_weights": _numbers(retain_weights, "--retain-weights", float),
            "steps": _numbers(steps, "--steps", int),
        }
        given = {**flags, "probes": assignments(probe, "--probe"), "compare": told}
        run = load_run_as(ComparisonRunFile, file, given, settings)
        source, folder = run.require("model"), Path(run.require("compare.out"))
        require_folder("out", folder)
        require_no_adapter(folder)
        written = folder / "comparison.json"
        if resume and not written.is_file():
            raise RunFileError(f"--resume: {folder} holds no comparison to go on with")
        if written.exists() and not resume:  # before a model is read
            raise RunFileError(f"out: {written} is there already: --resume goes on with it, another --out starts anew")
        plan = _plan(run)
        try:
            _run(plan, _data(run), source, run.twin, folder, resume)
        except OSError as error:  # a file of the data, or a model's
            raise RunFileError(str(error).partition("\n")[0]) from error
        except KeyboardInterrupt:
            how = [f"--resume goes on with what {folder} holds."] if written.is_file() else []
            raise KeyboardInterrupt(*how) from None


def _require_heard(settings: Iterable[Setting]) -> None:
    """Raises RunFileError for a `--set` of what a comparison sets itself."""
    for setting in settings:
        key = "method.name" if setting.key == "method" else setting.key
        for unheard, why in {"method.name": f"{_ITS_OWN}: --methods", **_UNHEARD}.items():
            if f"{key}.".startswith(f"{unheard}."):
                raise RunFileError(f"{setting.flag} {why}")


def _plan(run: ComparisonRunFile) -> ComparisonPlan:
    """What the run file and flags come to; which settings, the file's or a preset's, don't count is said."""
    config = run.config
    methods = run.compare.methods or tuple(known())
    unheard = [key for key in _UNHEARD if _is_set(config, key)]
    if unheard:
        stderr_console().print(f"ignored: {', '.join(unheard)}; {_INSTEAD}", markup=False)
    if _is_set(config, "method") and config.method.name not in methods:
        stderr_console().print(f"ignored: settings of {config.method.name}, which takes no part", markup=False)
    training = config.training.model_copy(update={"targets": None})
    values = {
        "methods": methods,
        "seeds": tuple(range(run.compare.seeds)),
        "budget": {name: getattr(run.compare, name) for name in Budget.model_fields},
        "config": config.model_copy(update={"training": training}),
    }
    try:
        return ComparisonPlan.model_validate(values)
    except ValidationError as error:
        raise RunFileError("\n".join(error_lines(error, ComparisonPlan, values))) from None


def _run(
    plan: ComparisonPlan,
    data: ComparisonData,
    model: str,
    twin: str | None,
    out: Path,
    resume: bool,
) -> None:
    set_up_logs()
    from compare import figure, race, table
    from compare.record import Record

    record = Record.open(out / "comparison.json", race.terms_of(plan, data, model, twin), race.about(plan), resume)
    with _bars(Console(stderr=True)) as bars:
        overall, current = bars.add_task("models", total=None), bars.add_task("", total=1.0)

        def watch(moment: race.Moment) -> None:
            bars.update(overall, completed=moment.done, total=moment.total)
            bars.update(current, completed=moment.share, description=moment.what)

        race.compare(plan, data, model, twin, record, watch)
        bars.remove_task(current)
    (out / "comparison.md").write_text(table.markdown(record), encoding="utf-8")
    figure.draw(record, out / "comparison.png")
    # A pipe has no width of its own, and a narrow table is no table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table.terminal(record))
    console.print(f"written: {out / 'comparison.json'}, comparison.md, comparison.png", soft_wrap=True)
    if all(row.error is not None for row in record.rows if row.stage == "run"):
        stderr_console().print("[bold red]error:[/bold red] no method came through")
        raise typer.Exit(1)


def _data(run: ComparisonRunFile) -> ComparisonData:
    forget = read_run_set(run, "forget")
    never_seen, facts = read_for_attacks(run, forget)
    kept = ([] if run.utility is None else ["utility"]) + [f"compare.kept.{name}" for name in run.compare.kept]
    return ComparisonData(
        forget=forget,
        retain=read_run_set(run, "retain"),
        probes=tuple(read_run_set(run, f"probes.{name}") for name in run.probes),
        utility=tuple(read_run_set(run, key) for key in kept),
        never_seen=never_seen,
        facts=facts,
    )


def _is_set(settings: BaseModel, key: str) -> bool:
    first, _, rest = key.partition(".")
    return first in settings.model_fields_set and (not rest or _is_set(getattr(settings, first), rest))


def _numbers(text: str | None, option: str, kind: Callable[[str], Number]) -> tuple[Number, ...] | None:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter("takes numbers with commas between them", param_hint=option) from None


def _bars(console: Console) -> Progress:
    return Progress(
        BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=console
    )
