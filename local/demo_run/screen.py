"""Prints the demo's numbered steps and tables. The text is the same with and without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from local.demo_run.checks import metric
from terminal.tables import format_figure
from vgid_client import Job
from vgid_client.models import Release
from vgid_client.render import release_table
from vgid_core.data.pairs import PairSet

STEPS = 8
_PLAIN_WIDTH = 120
_ROWS = {
    "forget": "the six people",
    "held_out_photos": "  photos it never saw",
    "rephrased": "  rephrased questions",
    "retain": "everyone else",
    "retain_check": "  other photos of them",
    "utility": "visual questions",
}


def make_console() -> Console:
    """A console as wide as the terminal. Without a terminal, it is wide enough for the tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


class Screen:
    """Prints the demo's steps on `console`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def step(self, number: int, title: str) -> None:
        """Prints a step's heading."""
        self.console.print(f"\n[bold cyan]{number}/{STEPS}[/] [bold]{title}[/]")

    def say(self, text: str) -> None:
        """Prints a line below a heading."""
        self.console.print(f"    {text}", soft_wrap=True)

    def answers(self, asked: PairSet, said: Sequence[str]) -> None:
        """Prints questions with the model's answers. Unexpected answers stand out."""
        table = self._table("question", "the model says")
        for pair, answer in zip(asked, said, strict=True):
            table.add_row(pair.question, answer if answer == pair.answer else f"[yellow]{answer}[/]")
        self.console.print(table)

    def before_after(self, asked: PairSet, before: Sequence[str], after: Sequence[str]) -> None:
        """Prints questions with both answers. Those that changed stand out."""
        table = self._table("question", "before", "after")
        for pair, old, new in zip(asked, before, after, strict=True):
            table.add_row(pair.question, old, "[green]the same[/]" if new == old else f"[magenta]{new}[/]")
        self.console.print(table)

    def metrics(self, job: Job) -> None:
        """Prints ROUGE-L and answer probability of every set, before and after."""
        heads = ("ROUGE-L\nbefore", "\nafter", "answer prob.\nbefore", "\nafter", "\npairs")
        table = self._table("", *heads, numbers=True)
        for split, title in _ROWS.items():
            score, likelihood = metric(job, split, "rouge_l"), metric(job, split, "answer_probability")
            if score is None or likelihood is None:
                continue
            values = (score.before, score.after, likelihood.before, likelihood.after)
            table.add_row(title, *map(format_figure, values), str(score.pairs))
        self.console.print(table)

    def release(self, release: Release) -> None:
        """Prints a release's page: what is to be served, and whom it holds."""
        self.console.print(release_table(release))

    def caveat(self) -> None:
        """Prints what the demo doesn't show."""
        self.console.print(
            "\n[bold]Not shown:[/] that the knowledge is gone; weights can't show that. What attackers still get, "
            "beside a model that never met these\npeople, is measured by `python -m bench.robustness`: "
            "docs/evaluation.md.",
            soft_wrap=True,
        )

    @staticmethod
    def _table(first: str, *others: str, numbers: bool = False) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
        table.add_column(first)
        for name in others:
            table.add_column(name, justify="right" if numbers else "left")
        return table
