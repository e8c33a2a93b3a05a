"""A comparison as a table: a line a contender, medians over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from compare.contenders import known
from compare.race import chosen
from compare.record import Record, Row

Figure = Callable[[Row], float | None]

REFERENCES = {"base": "base, untouched", "twin": "retain-only twin"}


@dataclass(frozen=True)
class Line:
    """One contender: the setting that tuning chose, its rows, and what to say where something failed."""

    name: str
    setting: str
    rows: Sequence[Row]
    remark: str = ""

    def value(self, figure: Figure) -> float | None:
        """The median over the rows that have the figure."""
        values = self._values(figure)
        return statistics.median(values) if values else None

    def cell(self, figure: Figure) -> str:
        """The median, or a dash."""
        values = self._values(figure)
        return _number(statistics.median(values)) if values else "–"

    def cell_with_range(self, figure: Figure) -> str:
        """The median, and the smallest and the largest where they differ from each other."""
        values = self._values(figure)
        low, high = (_number(extreme(values)) if values else "" for extreme in (min, max))
        return self.cell(figure) if low == high else f"{self.cell(figure)} ({low}–{high})"

    def _values(self, figure: Figure) -> list[float]:
        found = [figure(row) for row in self.rows if row.error is None]
        return [value for value in found if value is not None]


def _number(value: float) -> str:
    return f"{value:.2f}" if value <= 1 else f"{value:.0f}"


def _score(name: str) -> Figure:
    return lambda row: row.scores.get(name)


def _figure(name: str) -> Figure:
    return lambda row: row.figures.get(name)


COLUMNS: dict[str, Figure] = {
    "forgetting": _score("forgetting"),
    "utility": _score("utility"),
    "robustness": _score("robustness"),
    "forget ROUGE-L": _figure("rouge_l.forget"),
    "retain ROUGE-L": _figure("rouge_l.retain"),
    "membership AUC": _figure("membership.loss"),
    "prefilled": _figure("prefill"),
    "relearned": _figure("relearned"),
    "s": lambda row: row.seconds,
}


def lines(record: Record) -> list[Line]:
    """The references first, then contenders in their fixed order."""
    found = [Line(title, "", record.of(name, "reference")) for name, title in REFERENCES.items()]
    most = max((len(record.of(name, "trial")) for name in known()), default=0)
    for name, contender in known().items():
        trials, best = record.of(name, "trial"), chosen(record, name)
        runs = [row for row in record.of(name, "run") if row.setting == best]
        setting = "not trained" if not contender.trained else "" if best is None else str(best)
        if trials or runs:
            found.append(Line(name, setting, runs, _remark(trials, runs, most if contender.trained else 0)))
    return [line for line in found if line.rows or line.remark]


def _remark(trials: Sequence[Row], runs: Sequence[Row], most: int) -> str:
    failed = [row for row in runs or trials if row.error is not None]
    if failed:
        return f"{len(failed)} of {len(runs or trials)} failed: {failed[0].error}"
    return f"tuned by {len(trials)} trials, others by up to {most}" if len(trials) < most else ""


def terminal(record: Record) -> Table:
    """Medians, for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("lr, β, steps", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for line in lines(record):
        cells = [line.cell(figure) for figure in COLUMNS.values()]
        table.add_row(line.name, line.setting, *cells)
        if line.remark:
            table.add_row(f"  [yellow]{line.remark}[/]")
    return table


def markdown(record: Record) -> str:
    """Medians with their ranges, as Markdown, with remarks below."""
    header = ["method", "lr, β, steps", *COLUMNS]
    rows = [header, ["---"] * 2 + ["---:"] * len(COLUMNS)]
    rows += [[line.name, line.setting, *map(line.cell_with_range, COLUMNS.values())] for line in lines(record)]
    remarks = [f"- {line.name}: {line.remark}" for line in lines(record) if line.remark]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + (["", *remarks] if remarks else [])) + "\n"
