"""The table of a comparison: one row for each contender, with medians over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from compare.contenders import all_contenders
from compare.record import Record, Row
from compare.runner import chosen_setting

RowValue = Callable[[Row], float | None]

REFERENCES = {"base": "base, untouched", "reference_model": "reference model"}


@dataclass(frozen=True)
class TableRow:
    """One contender: its chosen setting, its runs, and a remark, such as on failed runs."""

    name: str
    setting: str
    rows: Sequence[Row]
    remark: str = ""

    def value(self, value_of: RowValue) -> float | None:
        """The median over the rows that have the value; None if none has."""
        values = self._values(value_of)
        return statistics.median(values) if values else None

    def cell(self, value_of: RowValue) -> str:
        """The median, or a dash."""
        values = self._values(value_of)
        return _number(statistics.median(values)) if values else "–"

    def cell_with_range(self, value_of: RowValue) -> str:
        """The median with the range, if there is one."""
        values = self._values(value_of)
        low, high = (_number(extreme(values)) if values else "" for extreme in (min, max))
        return self.cell(value_of) if low == high else f"{self.cell(value_of)} ({low}–{high})"

    def _values(self, value_of: RowValue) -> list[float]:
        found = [value_of(row) for row in self.rows if row.error is None]
        return [value for value in found if value is not None]


def _number(value: float) -> str:
    return f"{value:.2f}" if value <= 1 else f"{value:.0f}"


def _score(name: str) -> RowValue:
    return lambda row: row.scores.get(name)


def _figure(name: str) -> RowValue:
    return lambda row: row.figures.get(name)


COLUMNS: dict[str, RowValue] = {
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


def table_rows(record: Record) -> list[TableRow]:
    """The rows of the table: references, then contenders in their fixed order."""
    found = [TableRow(title, "", record.of(name, "reference")) for name, title in REFERENCES.items()]
    most = max((len(record.of(name, "trial")) for name in all_contenders()), default=0)
    for name, contender in all_contenders().items():
        trials, best = record.of(name, "trial"), chosen_setting(record, name)
        runs = [row for row in record.of(name, "run") if row.setting == best]
        setting = "not trained" if not contender.trained else "" if best is None else str(best)
        if trials or runs:
            found.append(TableRow(name, setting, runs, _remark(trials, runs, most if contender.trained else 0)))
    return [line for line in found if line.rows or line.remark]


def _remark(trials: Sequence[Row], runs: Sequence[Row], most: int) -> str:
    failed = [row for row in runs or trials if row.error is not None]
    if failed:
        return f"{len(failed)} of {len(runs or trials)} failed: {failed[0].error}"
    return f"tuned by {len(trials)} trials, others by up to {most}" if len(trials) < most else ""


def terminal(record: Record) -> Table:
    """The table for a terminal, with medians."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("lr, β, steps", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for line in table_rows(record):
        cells = [line.cell(value_of) for value_of in COLUMNS.values()]
        table.add_row(line.name, line.setting, *cells)
        if line.remark:
            table.add_row(f"  [yellow]{line.remark}[/]")
    return table


def markdown(record: Record) -> str:
    """The table in Markdown, with medians and ranges, and remarks below."""
    header = ["method", "lr, β, steps", *COLUMNS]
    rows = [header, ["---"] * 2 + ["---:"] * len(COLUMNS)]
    rows += [[line.name, line.setting, *map(line.cell_with_range, COLUMNS.values())] for line in table_rows(record)]
    remarks = [f"- {line.name}: {line.remark}" for line in table_rows(record) if line.remark]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + (["", *remarks] if remarks else [])) + "\n"
