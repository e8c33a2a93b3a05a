"""Tables of metrics for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from vgid_core.evaluation.metric import Metric

_NAMES = {"rouge_l": "ROUGE-L", "answer_probability": "answer probability"}


def metrics_table(columns: Mapping[str, Sequence[Metric]]) -> Table:
    """One row for each set and metric, one column for each of `columns`, and the number of pairs."""
    table = figures_table("set", "figure", numbers=[*columns, "pairs"])
    values = {title: {(m.split, m.name): m.value for m in metrics} for title, metrics in columns.items()}
    for metric in next(iter(columns.values())):
        key = (metric.split, metric.name)
        found = [values[title].get(key) for title in columns]
        cells = ["–" if value is None else f"{value:.3f}" for value in found]
        table.add_row(metric.split, _NAMES.get(metric.name, metric.name), *cells, str(metric.pairs))
    return table


def figures_table(*texts: str, numbers: Sequence[str]) -> Table:
    """An empty table with columns of text, then columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in texts:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def size(count: float) -> str:
    """Formats a number of bytes in a suitable unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
