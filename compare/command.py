"""`vgid compare`: compares unlearning methods on one dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from compare.contenders import all_contenders
from compare.plan import Budget, ComparisonData, ComparisonPlan
from compare.run_file import ComparisonRunFile
from terminal.assignments import assignments
from terminal.console import print_error, result_console, stderr_console
from terminal.progress_bar import ProgressBar
from vgid_core.cli.exit_codes import exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.config_errors import error_lines
from vgid_core.cli.inputs.flags import Setting
from vgid_core.cli.inputs.run_file import RunFileError, flag_settings, load_run_as
from vgid_core.cli.inputs.sources import read_for_attacks, read_run_set
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_folder, require_no_adapter

_OWN_OPTION = "is set by the comparison"
# Settings that a comparison sets itself, and why `--set` refuses them.
_FIXED = {
    "seed": f"{_OWN_OPTION}: --seeds",
    "training.learning_rate": f"{_OWN_OPTION}: --learning-rates",
    "training.retain_weight": f"{_OWN_OPTION}: --retain-weights",
    "training.steps": f"{_OWN_OPTION}: --steps",
}

_WHY_IGNORED = "a comparison sets seed, learning rate, retain weight and steps itself"

_Probe = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SOURCE", help="About what is forgotten, never trained on; repeatable.", show_default=False
    ),
]
_Kept = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SOURCE", help="What must stay, never trained on; repeatable.", show_default=False),
]
_Out = Annotated[Path | None, typer.Option(help="Folder for comparison.json, .md and .png.", show_default=False)]
_Methods = Annotated[
    str | None, typer.Option(help="Some of: " + ", ".join(all_contenders()) + "; else all.", show_default=False)
]
_Seeds = Annotated[int | None, typer.Option(help="Runs of each method's chosen setting; else 3.")]
_Grid = Annotated[str | None, typer.Option(metavar="A,B,...", help="To try for every method.", show_default=False)]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with the comparison in the folder.")]
Number = TypeVar("Number", int, float)


def compare(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: _Probe = None,
    kept: _Kept = None,
    unseen: options.NeverSeen = None,
    facts: options.Facts = None,
    reference_model: options.ReferenceModel = None,
    out: _Out = None,
    methods: _Methods = None,
    seeds: _Seeds = None,
    learning_rates: _Grid = None,
    retain_weights: _Grid = None,
    steps: _Grid = None,
    device: options.Device = None,
    setting: options.Setting = None,
    resume: _Resume = False,
) -> None:
    """Tune and run methods of unlearning on one dataset, attack the results, and show them side by side."""
    with exit_on_errors():
        settings = flag_settings({"device": device}, setting)
        _refuse_fixed_settings(settings)
        flags = {
            "model": model,
            "forget": forget,
            "retain": retain,
            "utility": utility,
            "reference_model": reference_model,
        }
        flags |= {"unseen": unseen, "facts": facts}
        own = {
            "out": None if out is None else str(out),
            "kept": assignments(kept, "--kept"),
            "methods": None if methods is None else [name.strip() for name in methods.split(",")],
            "seeds": seeds,
            "learning_rates": _numbers(learning_rates, "--learning-rates", float),
            "retain_weights": _numbers(retain_weights, "--retain-weights", float),
            "steps": _numbers(steps, "--steps", int),
        }
        given = {**flags, "probes": assignments(probe, "--probe"), "compare": own}
        _compare(load_run_as(ComparisonRunFile, file, given, settings), resume)


def _compare(run: ComparisonRunFile, resume: bool) -> None:
    """Checks the output folder, then runs the comparison. Raises RunFileError and KeyboardInterrupt."""
    source, folder = run.require("model"), Path(run.require("compare.out"))
    require_folder("out", folder)
    require_no_adapter(folder)
    record = folder / "comparison.json"
    if resume and not record.is_file():
        raise RunFileError(f"--resume: {folder} holds no comparison to go on with")
    if record.exists() and not resume:  # checked before a model is read
        raise RunFileError(f"out: {record} is there already: --resume goes on with it, another --out starts anew")
    plan = _plan(run)
    try:
        _run(plan, _data(run), source, run.reference_model, folder, resume)
    except OSError as error:  # of a data or model file
        raise RunFileError(str(error).partition("\n")[0]) from error
    except KeyboardInterrupt:
        hint = [f"--resume goes on with what {folder} holds."] if record.is_file() else []
        raise KeyboardInterrupt(*hint) from None


def _refuse_fixed_settings(settings: Iterable[Setting]) -> None:
    """Raises RunFileError for a `--set` of what a comparison sets itself."""
    for setting in settings:
        key = "method.name" if setting.key == "method" else setting.key
        for fixed, why in {"method.name": f"{_OWN_OPTION}: --methods", **_FIXED}.items():
            if f"{key}.".startswith(f"{fixed}."):
                raise RunFileError(f"{setting.flag} {why}")


def _plan(run: ComparisonRunFile) -> ComparisonPlan:
    """The plan of run file and flags. Prints which settings, of the file or a preset, are ignored."""
    config = run.config
    methods = run.compare.methods or tuple(all_contenders())
    ignored = [key for key in _FIXED if _is_set(config, key)]
    if ignored:
        stderr_console().print(f"ignored: {', '.join(ignored)}; {_WHY_IGNORED}", markup=False)
    if _is_set(config, "method") and config.method.name not in methods:
        stderr_console().print(f"ignored: settings of {config.method.name}, which takes no part", markup=False)
    values = {
        "methods": methods,
        "seeds": tuple(range(run.compare.seeds)),
        "budget": {name: getattr(run.compare, name) for name in Budget.model_fields},
        "config": config,
    }
    try:
        return ComparisonPlan.model_validate(values)
    except ValidationError as error:
        raise RunFileError("\n".join(error_lines(error, ComparisonPlan, values))) from None


def _run(
    plan: ComparisonPlan,
    data: ComparisonData,
    model: str,
    reference_model: str | None,
    out: Path,
    resume: bool,
) -> None:
    set_up_logs()
    from compare import figure, runner, table
    from compare.record import Record

    record = Record.open(
        out / "comparison.json",
        runner.conditions_of(plan, data, model, reference_model),
        runner.environment(plan),
        resume,
    )
    with ProgressBar(stderr_console(), "comparing", stays=True) as bar:

        def show(progress: runner.ComparisonProgress) -> None:
            share = (progress.done + progress.share) / progress.total
            bar.show("comparing", share, f"{progress.done}/{progress.total} models · {progress.what}")

        runner.compare(plan, data, model, reference_model, record, show)
    (out / "comparison.md").write_text(table.markdown(record), encoding="utf-8")
    figure.draw(record, out / "comparison.png")
    console = result_console()
    console.print(table.terminal(record))
    console.print(f"written: {out / 'comparison.json'}, comparison.md, comparison.png", soft_wrap=True)
    if all(row.error is not None for row in record.rows if row.stage == "run"):
        print_error("no method came through")
        raise typer.Exit(1)


def _data(run: ComparisonRunFile) -> ComparisonData:
    forget = read_run_set(run, "forget")
    unseen, facts = read_for_attacks(run, forget)
    kept = ([] if run.utility is None else ["utility"]) + [f"compare.kept.{name}" for name in run.compare.kept]
    return ComparisonData(
        forget=forget,
        retain=read_run_set(run, "retain"),
        probes=tuple(read_run_set(run, f"probes.{name}") for name in run.probes),
        utility=tuple(read_run_set(run, key) for key in kept),
        unseen=unseen,
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
