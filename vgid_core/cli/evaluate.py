"""`vgid evaluate`: audits a model, or an adapter on it, as a run's student is, beside a reference model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminal.assignments import assignments
from terminal.console import result_console, stderr_console
from terminal.progress_bar import ProgressBar
from vgid_core.cli.exit_codes import TARGETS_MISSED, exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.run_file import RunFile, RunFileError, adapter_folder, flag_settings, load_run
from vgid_core.cli.inputs.sources import read_run_set
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.out_folder import require_folder, write_text
from vgid_core.cli.reports.progress_bar import show_progress
from vgid_core.progress import Phase, Progress

if TYPE_CHECKING:
    from vgid_core.measure import EvaluationResult
    from vgid_core.spec import EvaluationSpec

_OPTIONAL = ("utility", "unseen", "neighbours")
_Audits = Annotated[
    str | None, typer.Option(metavar="LEVEL", help="quick, standard (the default) or full.", show_default=False)
]
_Report = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="Write it all as a page, too.", show_default=False)
]
_ShowTexts = Annotated[bool, typer.Option("--show-texts", help="Leave the true answers' words in the page uncovered.")]


def evaluate(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: options.Probe = None,
    unseen: options.NeverSeen = None,
    neighbours: options.Neighbours = None,
    reference_model: options.ReferenceModel = None,
    audits: _Audits = None,
    report: _Report = None,
    show_texts: _ShowTexts = False,
    device: options.Device = None,
    setting: options.Setting = None,
    as_json: options.AsJson = False,
) -> None:
    """Audit a model, or an adapter on it, and judge whether it has forgotten; nothing is trained."""
    with exit_on_errors():
        named = {"evaluation.audits": audits, "device": device}
        flags = {
            "model": model,
            "forget": forget,
            "retain": retain,
            "utility": utility,
            "reference_model": reference_model,
        }
        flags |= {"unseen": unseen, "neighbours": neighbours}
        run = load_run(file, {**flags, "probes": assignments(probe, "--probe")}, flag_settings(named, setting))
        page = _page_of(report, show_texts)
        spec = spec_of(run, adapter)
        found = measure(spec)
        if page is not None:
            page.write(spec, run.model_label, found)
        show(found, as_json)
        if not found.evidence.verdict.passed:
            raise typer.Exit(TARGETS_MISSED)


@dataclass(frozen=True)
class _Page:
    file: Path
    show_texts: bool

    def write(self, spec: EvaluationSpec, model_name: str, found: EvaluationResult) -> None:
        from vgid_core.cli.reports.evaluation_report import page

        write_text("--report", self.file, page(spec, model_name, found, self.show_texts))


def _page_of(report: Path | None, show_texts: bool) -> _Page | None:
    """The page that is asked for. Raises RunFileError for one that can't be written, before anything is measured."""
    if report is None:
        if show_texts:
            raise RunFileError("--show-texts is about the page: pass --report, too")
        return None
    require_folder("--report", report.parent)
    if report.is_dir():
        raise RunFileError(f"--report: {report} is a folder; name a file")
    return _Page(report, show_texts)


def spec_of(run: RunFile, adapter: Path | None) -> EvaluationSpec:
    """What a run file asks to measure. Reads everything before torch is imported."""
    model, folder = run.require("model"), adapter_folder(run, adapter)
    sets: dict[str, Any] = {name: read_run_set(run, name) for name in ("forget", "retain")}
    sets |= {name: read_run_set(run, name) for name in _OPTIONAL if getattr(run, name) is not None}
    probes = {name: read_run_set(run, f"probes.{name}") for name in run.probes}
    if run.config.evaluation.audits == "none":
        raise RunFileError(f"{run.source_of('config.evaluation.audits')}: with none there is nothing to judge by")

    from vgid_core.spec import EvaluationSpec

    return EvaluationSpec(
        model=model, adapter=folder, probes=probes, reference_model=run.reference_model, config=run.config, **sets
    )


def measure(spec: EvaluationSpec) -> EvaluationResult:
    """Measures it, with a bar."""
    set_up_logs()
    from vgid_core.measure import evaluate_adapter

    with ProgressBar(stderr_console(), Phase.loading, stays=False) as bar:

        def on_step(progress: Progress) -> None:
            show_progress(bar, progress)

        return evaluate_adapter(spec, on_step)


def show(found: EvaluationResult, as_json: bool) -> None:
    """Prints what was found, as tables or as JSON."""
    from vgid_core.cli.reports.evaluation_report import as_document, print_evaluation

    if as_json:
        typer.echo(json.dumps(as_document(found), indent=2))
    else:
        print_evaluation(result_console(), found)
