"""`vgid evaluate`: measures a model, an adapter on it and a twin, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from terminal.assignments import assignments
from terminal.console import stderr_console
from terminal.tables import figures_table, format_figure
from vgid_core.cli.exit_codes import exit_on_errors
from vgid_core.cli.inputs import options
from vgid_core.cli.inputs.run_file import RunFile, RunFileError, adapter_folder, flag_settings, load_run
from vgid_core.cli.inputs.sources import read_for_attacks, read_run_set
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import PairSet

if TYPE_CHECKING:
    from vgid_core.cli.reports.eval_report import ModelEvaluation

_PLACE_TITLES = {
    "first": "true answer the likeliest candidate",
    "first_five": "true answer among the first five",
    "last": "true answer the least likely candidate",
    "last_five": "true answer among the last five",
    "below": "candidates below the true answer",
}
_ATTACK_TITLES = {
    "membership.loss": "membership AUC, loss",
    "membership.zlib": "membership AUC, zlib",
    "membership.min_k": "membership AUC, Min-K%",
    "membership.min_k_plus_plus": "membership AUC, Min-K%++",
    "membership.grad_norm": "membership AUC, gradient norm",
    "membership.first_token": "membership AUC, first token",
    "membership.entropy": "membership AUC, entropy",
    "prefill": "facts that follow a begun answer",
    "prefill_inside": "facts that go on where they are begun",
    "extraction_strength": "Extraction Strength",
    **{
        f"ranking.{score}.{place}": f"{title}{by}"
        for score, by in {"whole_answer": "", "first_token": ", by first token", "lens": ", by logit lens"}.items()
        for place, title in _PLACE_TITLES.items()
    },
    "relearned": "facts that come back by relearning others",
}

# Attacks that need data, by the first figure that each gives; said when they are skipped.
_SKIPPED = {
    "membership.loss": "membership, which needs --never-seen",
    "prefill": "begun answers, as all begin with their facts",
    "prefill_inside": "facts that go on where they are begun, as none has several tokens",
    "ranking.whole_answer.first": "candidate ranking, which needs --never-seen with ten answers to a fact's question",
    "relearned": "relearning, which needs facts that others' answers don't hold",
}


def evaluate(
    file: options.RunFileArgument = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    forget: options.Forget = None,
    retain: options.Retain = None,
    utility: options.Utility = None,
    probe: options.Probe = None,
    twin: options.Twin = None,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Begun answers and relearning; with --never-seen, membership too.")
    ] = False,
    never_seen: options.NeverSeen = None,
    facts: options.Facts = None,
    device: options.Device = None,
    setting: options.Setting = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a model, an adapter on it and a twin, side by side; with attacks, if asked."""
    with exit_on_errors():
        if not attacks and (never_seen or facts):
            raise RunFileError("--never-seen and --facts are for attacks: pass --attacks, too")
        settings = flag_settings({"device": device}, setting)
        flags = {"model": model, "forget": forget, "retain": retain, "utility": utility, "twin": twin}
        flags |= {"never_seen": never_seen, "facts": facts}
        run = load_run(file, {**flags, "probes": assignments(probe, "--probe")}, settings)
        model_source, folder = run.require("model"), adapter_folder(run, adapter)
        to_forget = read_run_set(run, "forget")
        others = _read_others(run, to_forget)
        attack_data = read_for_attacks(run, to_forget) if attacks else (None, ())
        found = _measure(model_source, folder, run, to_forget, others, attack_data)
        _show(found, as_json)


def _read_others(run: RunFile, forget: PairSet) -> list[PairSet]:
    sets = []
    if run.retain is not None:
        sets.append(read_run_set(run, "retain").without_images_of(forget))
    if run.utility is not None:
        sets.append(read_run_set(run, "utility"))
    return sets + [read_run_set(run, f"probes.{name}") for name in run.probes]


def _measure(
    model: str,
    adapter: Path | None,
    run: RunFile,
    forget: PairSet,
    others: Sequence[PairSet],
    attack_data: tuple[PairSet | None, Sequence[Fact]],
) -> dict[str, ModelEvaluation]:
    set_up_logs()
    from vgid_core.cli.reports.eval_report import EvaluationSets, evaluate_models

    never_seen, facts = attack_data
    console = stderr_console()
    with console.status("loading") as status:
        return evaluate_models(
            model,
            adapter,
            run.twin,
            EvaluationSets(forget, others, never_seen, facts),
            run.config,
            status.update,
            console.print,
        )


def _show(found: Mapping[str, ModelEvaluation], as_json: bool) -> None:
    from vgid_core.cli.reports.tables import metrics_table

    if as_json:
        data: dict[str, Any] = {title: evaluation.as_json() for title, evaluation in found.items()}
        typer.echo(json.dumps(data, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(metrics_table({title: evaluation.metrics for title, evaluation in found.items()}))
    attacks = next(iter(found.values())).attacks
    if not attacks:
        return
    for name in (name for name in _SKIPPED if name not in attacks):
        stderr_console().print(f"not asked: {_SKIPPED[name]}", markup=False)
    table = figures_table("attack", numbers=list(found))
    for name in attacks:
        figures = (format_figure(evaluation.attacks[name]) for evaluation in found.values())
        table.add_row(_ATTACK_TITLES.get(name, name), *figures)
    console.print(table)
    yardstick = "the twin" if "twin" in found else "a model that never saw the forget set, which isn't here"
    console.print(f"Yardstick: {yardstick}. Above it something is left, below it the model avoids the answer.")
