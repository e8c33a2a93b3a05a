"""`vgid unlearn`: unlearns a forget set into an adapter on this machine, without a service."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminal.assignments import assignments
from terminal.console import print_warning, result_console, stderr_console
from terminal.progress_bar import ProgressBar
from vgid_core.cli.exit_codes import TARGETS_MISSED, exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.run_file import RunFile, flag_settings, load_run
from vgid_core.cli.inputs.sources import read_run_photos, read_run_set
from vgid_core.cli.interrupts import name_checkpoint_in_errors, stop_after_checkpoint
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_folder, require_free, write_atomically
from vgid_core.cli.reports.progress_bar import show_progress
from vgid_core.cli.reports.tensorboard import require_tensorboard, tensorboard_events
from vgid_core.progress import Phase, Progress
from vgid_core.serving.hints import serving_warnings

if TYPE_CHECKING:
    from vgid_core.evaluation.metric import Metric
    from vgid_core.run import Stage, UnlearnResult
    from vgid_core.spec import UnlearnSpec

_ModelName = Annotated[
    str | None,
    typer.Option(help="What the adapter calls its base; else the folder's name, or the hub id.", show_default=False),
]
_Out = Annotated[str | None, typer.Option(metavar="FOLDER", help="Where the adapter goes.", show_default=False)]
_Method = Annotated[
    str | None, typer.Option(help="Takes the place of the file's method with all its settings.", show_default=False)
]
_Steps = Annotated[int | None, typer.Option(help="As --set training.steps=...", show_default=False)]
_LearningRate = Annotated[float | None, typer.Option(help="As --set training.learning_rate=...", show_default=False)]
_Seed = Annotated[int | None, typer.Option(help="As --set seed=...", show_default=False)]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Measure memory and time, ask what the model knows; write nothing.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the adapter that is there.")]
_TensorBoard = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Write losses and metrics as events.", show_default=False)
]
_Checkpoint = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where an interrupted run can go on from.", show_default=False)
]


def unlearn(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    model_name: _ModelName = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: options.Probe = None,
    out: _Out = None,
    method: _Method = None,
    steps: _Steps = None,
    learning_rate: _LearningRate = None,
    seed: _Seed = None,
    device: options.Device = None,
    setting: options.Setting = None,
    dry_run: _DryRun = False,
    overwrite: _Overwrite = False,
    tensorboard: _TensorBoard = None,
    checkpoint: _Checkpoint = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a model forget: distil its forget set into an adapter on this machine, and evaluate the adapter."""
    with exit_on_errors():
        training = {"training.steps": steps, "training.learning_rate": learning_rate}
        named = {"method": method, **training, "seed": seed, "device": device}
        flags = {"model": model, "model_name": model_name, "forget": forget, "retain": retain, "utility": utility}
        given = {**flags, "out": out, "probes": assignments(probe, "--probe")}
        run = load_run(file, given, flag_settings(named, setting))
        target = Path(run.require("out") if not dry_run else run.out or "adapter")
        paths = OutputPaths(target, checkpoint, tensorboard)
        paths.require_folders()
        # Errors of the input come before those of the output folder.
        sets = _read(run)
        _warn_of_servers(run)
        if dry_run:
            _dry_run(run, sets, target, as_json)
            return
        require_free(target, overwrite)
        _run(run, sets, paths, as_json)


def _read(run: RunFile) -> dict[str, Any]:
    """Reads all sets, before torch is imported."""
    run.require("model")
    optional = ("utility", "unseen", "neighbours")
    return {
        "forget": read_run_set(run, "forget"),
        "retain": read_run_set(run, "retain"),
        **{name: None if getattr(run, name) is None else read_run_set(run, name) for name in optional},
        "probes": {name: read_run_set(run, f"probes.{name}") for name in run.probes},
        "unseen_faces": None if run.unseen_faces is None else read_run_photos(run, "unseen_faces"),
        "unlabelled": None if run.unlabelled is None else read_run_photos(run, "unlabelled"),
    }


@dataclass(frozen=True)
class OutputPaths:
    """The folders that a run writes to."""

    out: Path
    checkpoint: Path | None
    tensorboard: Path | None

    def require_folders(self) -> None:
        """Raises RunFileError if TensorBoard is needed and missing, or if a file is in the place of a folder."""
        if self.tensorboard is not None:
            require_tensorboard()
        for option, folder in (("--checkpoint", self.checkpoint), ("--tensorboard", self.tensorboard)):
            if folder is not None:
                require_folder(option, folder)


def _warn_of_servers(run: RunFile) -> None:
    """Says before the run what servers won't take of its adapter; once, where several processes share the run."""
    if int(os.environ.get("RANK", "0")) == 0:
        for warning in serving_warnings(run.config.lora):
            print_warning(f"{warning.message}: {warning.advice}")


def _spec(run: RunFile, sets: dict[str, Any], out: Path, checkpoint: Path | None = None) -> UnlearnSpec:
    from vgid_core.spec import UnlearnSpec

    return UnlearnSpec(
        model=run.require("model"),
        model_name=run.model_label,
        out=out,
        config=run.config,
        checkpoint=checkpoint,
        keep_checkpoint=True,  # deleted once the adapter is in `out`
        **sets,
    )


def _dry_run(run: RunFile, sets: dict[str, Any], out: Path, as_json: bool) -> None:
    set_up_logs()
    from vgid_core.cli.reports.dry_run_report import print_report, report_data
    from vgid_core.dry_run import estimate

    with stderr_console().status("measuring"):
        found = estimate(_spec(run, sets, out))
    if as_json:
        typer.echo(json.dumps(report_data(found), indent=2))
    else:
        print_report(result_console(), found)


def _run(run: RunFile, sets: dict[str, Any], paths: OutputPaths, as_json: bool) -> None:
    set_up_logs()
    from vgid_core.run import unlearn as run_unlearn
    from vgid_core.training.checkpoints import delete_checkpoint

    if int(os.environ.get("RANK", "0")) > 0:  # the main process writes and reports
        with name_checkpoint_in_errors(paths.checkpoint):
            run_unlearn(_spec(run, sets, paths.out, paths.checkpoint))
        return
    console = stderr_console()
    with (
        name_checkpoint_in_errors(paths.checkpoint),
        stop_after_checkpoint(paths.checkpoint, console) as stop_request,
        write_atomically(paths.out) as folder,
        tensorboard_events(paths.tensorboard) as events,
        ProgressBar(console, Phase.loading, stays=False) as bar,
    ):
        spec = _spec(run, sets, folder, paths.checkpoint)

        def on_step(progress: Progress) -> None:
            stop_request.observe(progress)
            show_progress(bar, progress)
            if events is not None:
                events.step(progress)

        def on_metrics(stage: Stage, metrics: list[Metric]) -> None:
            if events is not None:
                events.metrics(stage, metrics)

        result = run_unlearn(spec, on_step, on_metrics, stop=lambda: stop_request.requested)
    if paths.checkpoint is not None:
        delete_checkpoint(paths.checkpoint)
    _show(result, paths.out, as_json)


def _show(result: UnlearnResult, out: Path, as_json: bool) -> None:
    if as_json:
        metrics = {"before": result.metrics_before, "after": result.metrics_after}
        data = {
            "out": str(out),
            "steps": result.steps,
            "verdict": None if result.evidence is None else result.evidence.verdict.as_json(),
            "seconds": result.manifest["seconds"],
            "metrics": {stage: [asdict(metric) for metric in rows] for stage, rows in metrics.items()},
        }
        typer.echo(json.dumps(data, indent=2))
    else:
        _print(result, out)
    if result.evidence is not None and not result.evidence.verdict.passed:
        raise typer.Exit(TARGETS_MISSED)


def _print(result: UnlearnResult, out: Path) -> None:
    from vgid_core.cli.reports.tables import metrics_table
    from vgid_core.cli.reports.verdict_report import print_verdict

    seconds = result.manifest["seconds"]
    console = result_console()
    console.print(metrics_table({"before": result.metrics_before, "after": result.metrics_after}))
    took = f"{sum(seconds.values()):.0f} s"
    console.print(f"{result.steps} steps, {took}. The adapter is in {out}", markup=False)
    if result.evidence is not None:
        print_verdict(console, result.evidence.as_json())
