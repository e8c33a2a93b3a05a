"""`vgid compare`: methods of unlearning side by side on one dataset."""

from __future__ import annotations

import logging
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vgid_core.commands import options
from vgid_core.commands.quiet import quiet
from vgid_core.compare.contenders import known
from vgid_core.compare.facts import read_facts
from vgid_core.compare.plan import Budget, ComparisonData, ComparisonPlan
from vgid_core.config import UnlearnConfig
from vgid_core.data import DataError, PairSet
from vgid_core.errors import UnlearnError
from vgid_core.readers import read_set

_DEFAULT = Budget()
_FAILED, _USAGE = 1, 2

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
    # A pipe has no width of its own, and a narrow table is no table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        base = UnlearnConfig.model_validate(_toml(config) | ({} if device is None else {"device": device}))
        budget = Budget(
            learning_rates=_numbers(learning_rates, "--learning-rates", float),
            retain_weights=_numbers(retain_weights, "--retain-weights", float),
            steps=_numbers(steps, "--steps", int),
        )
        chosen = tuple(known()) if methods is None else tuple(name.strip() for name in methods.split(","))
        plan = ComparisonPlan(methods=chosen, seeds=tuple(range(seeds)), budget=budget, config=base)
        data = _data(forget, retain, probe or [], utility or [], never_seen)
        _run(plan, data, model, twin, out, resume, console)
    except ValidationError as error:
        _stop("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), _USAGE)
    except (DataError, tomllib.TOMLDecodeError) as error:
        _stop(str(error), _USAGE)
    except OSError as error:  # a file of the data, or a model's
        _stop(str(error).partition("\n")[0], _USAGE)
    except UnlearnError as error:
        _stop(str(error), _FAILED)
    except KeyboardInterrupt:
        _stop(f"stopped; --resume goes on with what {out} holds", 130)


def _run(
    plan: ComparisonPlan,
    data: ComparisonData,
    model: str,
    twin: str | None,
    out: Path,
    resume: bool,
    console: Console,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet()
    from vgid_core.compare import figure, race, table
    from vgid_core.compare.record import Record

    record = Record.open(out / "comparison.json", race.terms_of(plan, data, model, twin), race.about(plan), resume)
    with _bars(Console(stderr=True)) as bars:
        overall, current = bars.add_task("models", total=None), bars.add_task("", total=1.0)

        def watch(moment: race.Moment) -> None:
            bars.update(overall, completed=moment.done, total=moment.total)
            bars.update(current, completed=moment.share, description=moment.what)

        race.compare(plan, data, model, twin, record, watch)
    (out / "comparison.md").write_text(table.markdown(record), encoding="utf-8")
    figure.draw(record, out / "comparison.png")
    console.print(table.terminal(record))
    console.print(f"written: {out / 'comparison.json'}, comparison.md, comparison.png", soft_wrap=True)
    if all(row.error is not None for row in record.rows if row.stage == "run"):
        _stop("no method came through", _FAILED)


def _data(forget: str, retain: str, probes: list[str], utility: list[str], never_seen: str | None) -> ComparisonData:
    forgotten = read_set(forget, "forget")
    return ComparisonData(
        forget=forgotten,
        retain=read_set(retain, "retain"),
        probes=tuple(map(_named_set, probes)),
        utility=tuple(map(_named_set, utility)),
        never_seen=None if never_seen is None else read_set(never_seen, "never_seen"),
        facts=read_facts(forget, forgotten),
    )


def _named_set(given: str) -> PairSet:
    """A set by `name=source`, or by a source alone, after which it is called."""
    name, separator, source = given.partition("=")
    return read_set(source, name) if separator else read_set(given)


def _toml(path: Path | None) -> dict[str, Any]:
    """Settings of a file. Raises DataError for those that a comparison sets itself."""
    values = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8"))
    for key, why in _NOT_OF_THE_FILE.items():
        if _holds(values, key):
            raise DataError(why, f"config.{key}")
    return values


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


def _stop(message: str, code: int) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False)
    raise typer.Exit(code)
