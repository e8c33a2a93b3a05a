"""Tables of metrics for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from terminal import tables

if TYPE_CHECKING:
    from vgid_core.evaluation.metric import Metric


def metrics_table(columns: Mapping[str, Sequence[Metric]]) -> Table:
    """One row for each set and metric, one column for each of `columns`, and the number of pairs."""
    values = [{(m.split, m.name): m.value for m in metrics} for metrics in columns.values()]
    rows = (
        (metric.split, metric.name, [found.get((metric.split, metric.name)) for found in values], metric.pairs)
        for metric in next(iter(columns.values()))
    )
    return tables.metrics_table(tuple(columns), rows)
