"""`vgid evaluate`: what a model, an adapter on it and a twin know, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vgid_core.cli import options
from vgid_core.cli.exit_codes import ended_in_words, notices
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.cli.run_file import RunFile, RunFileError, adapter_of, assignments, load_run, settings_of
from vgid_core.cli.sources import read_for_attacks, read_of
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import PairSet

if TYPE_CHECKING:
    from vgid_core.cli.reports.eval_report import Column

_ATTACKS = {
    "membership.loss": "membership AUC, loss",
    "membership.zlib": "membership AUC, zlib",
    "membership.min_k": "membership AUC, Min-K%",
    "membership.min_k_plus_plus": "membership AUC, Min-K%++",
    "membership.grad_norm": "membership AUC, gradient norm",
    "membership.first_token": "membership AUC, first token",
    "membership.entropy": "membership AUC, entropy",
    "prefill": "facts that follow a begun answer",
    "prefill_inside": "facts that go on where they are begun",
    "relearned": "facts that come back by relearning others",
}

_NEEDS = {
    "membership.loss": "membership, which needs --never-seen",
    "prefill": "begun answers, as all begin with their facts",
    "prefill_inside": "facts that go on where they are begun, as none has several tokens",
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
    with ended_in_words():
        if not attacks and (never_seen or facts):
            raise RunFileError("--never-seen and --facts are for attacks: pass --attacks, too")
        settings = settings_of({"device": device}, setting)
        flags = {"model": model, "forget": forget, "retain": retain, "utility": utility, "twin": twin}
        flags |= {"never_seen": never_seen, "facts": facts}
        run = load_run(file, {**flags, "probes": assignments(probe, "--probe")}, settings)
        model_source, folder = run.needed("model"), adapter_of(run, adapter)
        sets = _read(run)
        against = read_for_attacks(run, sets[0]) if attacks else (None, ())
        found = _measure(model_source, folder, run, sets, against)
        _show(found, as_json)


def _read(run: RunFile) -> list[PairSet]:
    forget = read_of(run, "forget")
    sets = [forget]
    if run.retain is not None:
        sets.append(read_of(run, "retain").without_images_of(forget))
    if run.utility is not None:
        sets.append(read_of(run, "utility"))
    return sets + [read_of(run, f"probes.{name}") for name in run.probes]


def _measure(
    model: str,
    adapter: Path | None,
    run: RunFile,
    sets: list[PairSet],
    against: tuple[PairSet | None, Sequence[Fact]],
) -> dict[str, Column]:
    set_up_logs()
    from vgid_core.cli.reports.eval_report import Questions, columns

    never_seen, facts = against
    asked = Questions(sets, never_seen, facts)
    console = notices()
    with console.status("loading") as status:
        return columns(model, adapter, run.twin, asked, run.config, status.update, console.print)


def _show(found: Mapping[str, Column], as_json: bool) -> None:
    from vgid_core.cli.reports.tables import figures_table, metrics_table

    if as_json:
        data: dict[str, Any] = {title: column.as_data() for title, column in found.items()}
        typer.echo(json.dumps(data, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(metrics_table({title: column.metrics for title, column in found.items()}))
    made = next(iter(found.values())).attacks
    if not made:
        return
    for name in (name for name in _NEEDS if name not in made):
        notices().print(f"not asked: {_NEEDS[name]}", markup=False)
    table = figures_table("attack", numbers=list(found))
    for name in made:
        table.add_row(_ATTACKS.get(name, name), *(f"{column.attacks[name]:.3f}" for column in found.values()))
    console.print(table)
    yardstick = "the twin" if "twin" in found else "a model that never saw the forget set, which isn't here"
    console.print(f"Yardstick: {yardstick}. Above it something is left, below it the model flinches.")
