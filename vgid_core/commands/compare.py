"""`vgid compare`: methods of unlearning side by side on one dataset."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vgid_core.commands import options
from vgid_core.commands.ending import ended_in_words, notices
from vgid_core.commands.explain import readable
from vgid_core.commands.out_folder import require_folder
from vgid_core.commands.quiet import quiet
from vgid_core.commands.run_file import RunFileError, require_model, settings_in
from vgid_core.commands.sources import read_pairs
from vgid_core.compare.contenders import known
from vgid_core.compare.facts import read_facts
from vgid_core.compare.plan import Budget, ComparisonData, ComparisonPlan
from vgid_core.config import UnlearnConfig
from vgid_core.data import PairSet

_DEFAULT = Budget()
_ITS_OWN = "is what a comparison sets itself"
_NOT_OF_THE_FILE = {
    "method": f"{_ITS_OWN}: --methods",
    "seed": f"{_ITS_OWN}: --seeds",
    "training.learning_rate": f"{_ITS_OWN}: --learning-rates",
    "training.retain_weight": f"{_ITS_OWN}: --retain-weights",
    "training.steps": f"{_ITS_OWN}: --steps",
    "training.targets": "is nothing that a comparison hears: every run of a setting has all its steps",
}

Number = TypeVar("Number", int, float)


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def compare(
    model: Annotated[str, typer.Argument(help="The base: a local folder or a hub id.")],
    forget: Annotated[str, typer.Option(metavar="SOURCE", help="What is to be forgotten: a path, or format:path.")],
    retain: Annotated[str, typer.Option(metavar="SOURCE", help="What must stay and is trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json, .md and .png.")],
    probe: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]SOURCE", help="About what is forgotten, never trained on; repeatable."),
    ] = None,
    utility: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]SOURCE", help="What must stay, never trained on; repeatable.")
    ] = None,
    never_seen: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Like the forget set, but unknown to the base: for membership attacks."),
    ] = None,
    twin: Annotated[str | None, typer.Option(help="A model that was trained without what is forgotten.")] = None,
    methods: Annotated[str | None, typer.Option(help="Some of: " + ", ".join(known()) + "; else all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Runs of each method's chosen setting.")] = 3,
    learning_rates: Annotated[str, typer.Option(help="To try for every method.")] = _listed(_DEFAULT.learning_rates),
    retain_weights: Annotated[str, typer.Option(help="To try with each.")] = _listed(_DEFAULT.retain_weights),
    steps: Annotated[str, typer.Option(help="To try with each.")] = _listed(_DEFAULT.steps),
    config: Annotated[
        Path | None, typer.Option(help="TOML of other settings for every run, such as its lora and evaluation.")
    ] = None,
    device: options.Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in the folder.")] = False,
) -> None:
    """Tune and run methods of unlearning on one dataset, attack the results, and show them side by side."""
    with ended_in_words():
        require_model("model", model)
        require_model("twin", twin)
        require_folder("out", out)
        budget = Budget(
            learning_rates=_numbers(learning_rates, "--learning-rates", float),
            retain_weights=_numbers(retain_weights, "--retain-weights", float),
            steps=_numbers(steps, "--steps", int),
        )
        plan = _plan(methods, seeds, budget, _settings(config, device))
        try:
            data = _data(forget, retain, probe or [], utility or [], never_seen)
            _run(plan, data, model, twin, out, resume)
        except OSError as error:  # a file of the data, or a model's
            raise RunFileError(str(error).partition("\n")[0]) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"--resume goes on with what {out} holds.") from None


def _settings(file: Path | None, device: str | None) -> UnlearnConfig:
    """Those of the file and the flag. Raises RunFileError, also for those that a comparison sets itself."""
    values = {} if file is None else settings_in(file)
    for key, why in _NOT_OF_THE_FILE.items():
        if _holds(values, key):
            raise RunFileError(f"{file}: {key} {why}")
    if device is not None:
        values["device"] = device
    try:
        return UnlearnConfig.model_validate(values)
    except ValidationError as error:
        where = "" if file is None else f"{file}: "
        raise RunFileError("\n".join(f"{where}{line}" for line in readable(error, UnlearnConfig, values))) from None


def _plan(methods: str | None, seeds: int, budget: Budget, config: UnlearnConfig) -> ComparisonPlan:
    chosen = tuple(known()) if methods is None else tuple(name.strip() for name in methods.split(","))
    values = {"methods": chosen, "seeds": tuple(range(seeds)), "budget": budget, "config": config}
    try:
        return ComparisonPlan.model_validate(values)
    except ValidationError as error:
        raise RunFileError("\n".join(readable(error, ComparisonPlan, values))) from None


def _run(
    plan: ComparisonPlan,
    data: ComparisonData,
    model: str,
    twin: str | None,
    out: Path,
    resume: bool,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet()
    from vgid_core.compare import figure, race, table
    from vgid_core.compare.record import Record, require_new

    require_new(out / "comparison.json", resume)
    record = Record.open(out / "comparison.json", race.terms_of(plan, data, model, twin), race.about(plan), resume)
    with _bars(Console(stderr=True)) as bars:
        overall, current = bars.add_task("models", total=None), bars.add_task("", total=1.0)

        def watch(moment: race.Moment) -> None:
            bars.update(overall, completed=moment.done, total=moment.total)
            bars.update(current, completed=moment.share, description=moment.what)

        race.compare(plan, data, model, twin, record, watch)
    (out / "comparison.md").write_text(table.markdown(record), encoding="utf-8")
    figure.draw(record, out / "comparison.png")
    # A pipe has no width of its own, and a narrow table is no table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table.terminal(record))
    console.print(f"written: {out / 'comparison.json'}, comparison.md, comparison.png", soft_wrap=True)
    if all(row.error is not None for row in record.rows if row.stage == "run"):
        notices().print("[bold red]error:[/bold red] no method came through")
        raise typer.Exit(1)


def _data(forget: str, retain: str, probes: list[str], utility: list[str], never_seen: str | None) -> ComparisonData:
    forgotten = read_pairs(forget, "forget")
    return ComparisonData(
        forget=forgotten,
        retain=read_pairs(retain, "retain"),
        probes=tuple(map(_named_set, probes)),
        utility=tuple(map(_named_set, utility)),
        never_seen=None if never_seen is None else read_pairs(never_seen, "never_seen"),
        facts=read_facts(forget, forgotten),
    )


def _named_set(given: str) -> PairSet:
    """A set by `name=source`, or by a source alone, after which it is called."""
    name, separator, source = given.partition("=")
    return read_pairs(source, name) if separator else read_pairs(given)


def _holds(values: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    if not isinstance(values, Mapping) or first not in values:
        return False
    return not rest or _holds(values[first], rest)


def _numbers(text: str, option: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter("takes numbers with commas between them", param_hint=option) from None


def _bars(console: Console) -> Progress:
    return Progress(
        BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=console
    )
