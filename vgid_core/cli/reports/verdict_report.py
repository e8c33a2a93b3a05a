"""Prints a verdict: what was missed, what wasn't measured, and each target with its figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_OUTCOMES = {
    "forgotten": "[bold green]Passed[/bold green]: every target holds.",
    "targets-not-met": "[bold red]Not passed[/bold red]: a target is missed. Don't serve this adapter as if the people "
    "were forgotten.",
    "nothing-to-forget": "[bold red]Nothing to forget[/bold red]: the model doesn't know these answers. Are answers, "
    "photos and model the right ones?",
}


def print_verdict(console: Console, evidence: Mapping[str, Any]) -> None:
    """Prints the verdict of an evidence document."""
    verdict = evidence["verdict"]
    if verdict["targets"]:
        console.print(_table(verdict))
    for claim in verdict["unmeasured"]:
        console.print(f"[dim]not measured: {claim}[/dim]")
    console.print(_OUTCOMES[verdict["outcome"]])


def _table(verdict: Mapping[str, Any]) -> Table:
    table = Table(box=None)
    for title in ("figure", "set", "value", "95 %", "judged", "at most", ""):
        table.add_column(title, justify="left" if title in ("figure", "set", "") else "right", no_wrap=True)
    for target in verdict["targets"]:
        table.add_row(
            target["figure"],
            target["set"],
            f"{target['value']:.3f}",
            f"{target['low']:.2f}-{target['high']:.2f}",
            f"{target['amount']:.3f}",
            f"{target['limit']:.2f}",
            "holds" if target["held"] else f"[red]missed: {target['meaning']}[/red]",
        )
    return table
