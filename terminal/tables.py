"""Tables of figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

_NAMES = {"rouge_l": "ROUGE-L", "answer_probability": "answer probability"}

# A set, a metric's name, its value in each column, and the number of pairs.
MetricRow = tuple[str, str, Sequence[float | None], int]


def metrics_table(columns: Sequence[str], rows: Iterable[MetricRow]) -> Table:
    """A row for each set and metric, a column for each of `columns`, and the number of pairs."""
    table = figures_table("set", "figure", numbers=[*columns, "pairs"])
    for split, name, values, pairs in rows:
        table.add_row(split, _NAMES.get(name, name), *map(format_figure, values), str(pairs))
    return table


def figures_table(*texts: str, numbers: Sequence[str]) -> Table:
    """An empty table with columns of text, then columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in texts:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def format_figure(figure: float | None) -> str:
    """The figure with three decimals, or a dash if it wasn't measured."""
    return "–" if figure is None else f"{figure:.3f}"
