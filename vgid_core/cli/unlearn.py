"""`vgid unlearn`: a forget set distilled into an adapter, on this machine, without a service."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vgid_core.cli import options
from vgid_core.cli.exit_codes import ended_in_words, notices
from vgid_core.cli.interrupts import checkpoint_named, written_down_first
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_folder, require_free, written_whole
from vgid_core.cli.reports.progress_bar import RunView
from vgid_core.cli.reports.tensorboard import events_in, require_tensorboard
from vgid_core.cli.run_file import RunFile, assignments, load_run, settings_of
from vgid_core.cli.sources import read_of, read_photos_of

if TYPE_CHECKING:
    from vgid_core.evaluation.metric import Metric
    from vgid_core.progress import Progress
    from vgid_core.run import Stage, UnlearnResult
    from vgid_core.spec import UnlearnSpec


def unlearn(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    model_name: Annotated[
        str | None,
        typer.Option(
            help="What the adapter calls its base; else the folder's name, or the hub id.", show_default=False
        ),
    ] = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: options.Probe = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the adapter goes.", show_default=False)
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Takes the place of the file's method with all its settings.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="As --set training.steps=...", show_default=False)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="As --set training.learning_rate=...", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="As --set seed=...", show_default=False)] = None,
    device: options.Device = None,
    setting: options.Setting = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure memory and time, ask what the model knows; write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the adapter that is there.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write losses and metrics as events.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where an interrupted run can go on from.", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a model forget: distil a forget set into an adapter, here, and measure what it did."""
    with ended_in_words():
        named = {
            "method": method,
            "training.steps": steps,
            "training.learning_rate": learning_rate,
            "seed": seed,
            "device": device,
        }
        settings = settings_of(named, setting)
        flags = {"model": model, "model_name": model_name, "forget": forget, "retain": retain, "utility": utility}
        run = load_run(file, {**flags, "out": out, "probes": assignments(probe, "--probe")}, settings)
        target = Path(run.needed("out") if not dry_run else run.out or "adapter")
        if tensorboard is not None:
            require_tensorboard()
        for option, folder in (("--checkpoint", checkpoint), ("--tensorboard", tensorboard)):
            if folder is not None:
                require_folder(option, folder)
        # What is wrong with the input comes first: who has mended it may well want another folder, too.
        sets = _read(run)
        if not dry_run:
            require_free(target, overwrite)
        if dry_run:
            _foretell(run, sets, target, as_json)
        else:
            _carry_out(run, sets, Places(target, checkpoint, tensorboard), as_json)


def _read(run: RunFile) -> dict[str, Any]:
    """Every set, before anything heavy is loaded."""
    run.needed("model")
    return {
        "forget": read_of(run, "forget"),
        "retain": read_of(run, "retain"),
        "utility": None if run.utility is None else read_of(run, "utility"),
        "probes": {name: read_of(run, f"probes.{name}") for name in run.probes},
        "strangers": None if run.strangers is None else read_photos_of(run, "strangers"),
        "unlabelled": None if run.unlabelled is None else read_photos_of(run, "unlabelled"),
    }


@dataclass(frozen=True)
class Places:
    """Where a run writes."""

    out: Path
    checkpoint: Path | None
    tensorboard: Path | None


def _spec(run: RunFile, sets: dict[str, Any], out: Path, checkpoint: Path | None = None) -> UnlearnSpec:
    from vgid_core.spec import UnlearnSpec

    return UnlearnSpec(
        model=run.needed("model"),
        model_name=run.called,
        out=out,
        config=run.config,
        checkpoint=checkpoint,
        keep_checkpoint=True,  # until the adapter is in its place
        **sets,
    )


def _foretell(run: RunFile, sets: dict[str, Any], out: Path, as_json: bool) -> None:
    set_up_logs()
    from vgid_core.cli.reports.dry_run_report import as_data, say
    from vgid_core.dry_run import estimate

    with notices().status("measuring"):
        found = estimate(_spec(run, sets, out))
    if as_json:
        typer.echo(json.dumps(as_data(found), indent=2))
    else:
        say(Console(highlight=False), found)


def _carry_out(run: RunFile, sets: dict[str, Any], places: Places, as_json: bool) -> None:
    set_up_logs()
    from vgid_core.run import unlearn as run_unlearn
    from vgid_core.training.checkpoints import delete_checkpoint

    if int(os.environ.get("RANK", "0")) > 0:  # one of several processes: the first one writes and reports
        with checkpoint_named(places.checkpoint):
            run_unlearn(_spec(run, sets, places.out, places.checkpoint))
        return
    console = notices()
    with (
        checkpoint_named(places.checkpoint),
        written_down_first(places.checkpoint, console) as stopping,
        written_whole(places.out) as folder,
        events_in(places.tensorboard) as events,
        RunView(console) as view,
    ):
        spec = _spec(run, sets, folder, places.checkpoint)

        def on_step(progress: Progress) -> None:
            stopping.heard(progress)
            view.show(progress)
            if events is not None:
                events.step(progress)

        def on_metrics(stage: Stage, metrics: list[Metric]) -> None:
            if events is not None:
                events.metrics(stage, metrics)

        result = run_unlearn(spec, on_step, on_metrics, stop=lambda: stopping.asked)
    if places.checkpoint is not None:
        delete_checkpoint(places.checkpoint)
    _show(result, places.out, as_json)


def _show(result: UnlearnResult, out: Path, as_json: bool) -> None:
    from vgid_core.cli.reports.dry_run_report import say_unknown
    from vgid_core.cli.reports.tables import metrics_table

    seconds = result.manifest["seconds"]
    if as_json:
        metrics = {"before": result.metrics_before, "after": result.metrics_after}
        data = {
            "out": str(out),
            "steps": result.steps,
            "stop_reason": result.stop_reason,
            "knew_forget_set": result.knew,
            "seconds": seconds,
            "metrics": {stage: [asdict(metric) for metric in rows] for stage, rows in metrics.items()},
        }
        typer.echo(json.dumps(data, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(metrics_table({"before": result.metrics_before, "after": result.metrics_after}))
    ended = ", when the targets held" if result.stop_reason == "targets-held" else ""
    took = f"{sum(seconds.values()):.0f} s"
    console.print(f"{result.steps} steps{ended}, {took}. The adapter is in {out}", markup=False)
    if not result.knew:
        say_unknown(console, "The adapter is evidence of nothing.")
