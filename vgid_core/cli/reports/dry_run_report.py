"""The report of `vgid unlearn --dry-run`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from terminal.units import duration, size
from vgid_core.cli.reports.tables import metrics_table
from vgid_core.dry_run import Estimate


def report_data(found: Estimate) -> dict[str, Any]:
    """The estimate in JSON types."""
    return {**asdict(found), "memory": {**asdict(found.memory), "total": found.memory.total}}


def print_report(console: Console, found: Estimate) -> None:
    """Prints the estimate: memory, time, and whether the model knows the forget set."""
    console.print(_estimate_table(found))
    console.print(metrics_table({"before": found.metrics}))
    if found.unknown is None:
        console.print("The model knows the forget set. Nothing was written.")
        return
    console.print(f"[bold red]{found.unknown}[/bold red] Are answers, photos and model the right ones?", soft_wrap=True)
    console.print("Nothing was written.")


def _estimate_table(found: Estimate) -> Table:
    memory, time = found.memory, found.duration
    how = {
        "measured": "measured: the accelerator's peak in real steps",
        "counted": "counted: what autograd kept in a real step; passing tensors come on top",
    }
    rows = [
        ("device", f"{found.device}, {found.dtype}, {found.scorer} rows", ""),
        ("model", f"{found.parameters:,} parameters", ""),
        ("weights", size(memory.weights), "as loaded"),
        ("adapter", size(memory.adapter), f"{found.adapter_parameters:,} parameters and their gradients"),
        ("optimiser", size(memory.optimizer), "AdamW, float32"),
        ("activations", size(memory.activations), how[memory.how]),
        ("memory", size(memory.total), "" if memory.available is None else f"of {size(memory.available)}"),
        ("file", size(found.adapter_file), "the adapter as it is saved"),
        ("loading", duration(time.loading), ""),
        ("evaluation", f"2 × {duration(time.evaluation)}", "from a sample of each set"),
        ("preparation", duration(time.preparation), "what the method computes once a run"),
        ("a step", f"{time.step:.2f} s", f"median of {time.steps_timed} real steps"),
        ("whole run", duration(time.total), f"{time.steps} steps: each forget pair {time.epochs:.1f} times"),
    ]
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    return table
