"""Shows a run's progress: a live bar on a terminal, else a line for each phase and one every few seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

from terminal.units import duration

_LINE_EVERY = 5.0  # seconds between plain lines within one phase


class ProgressBar:
    """Shows one run's progress on `console`. A context manager.

    phase: what is shown before the first report. stays: whether the bar's last state is left on the terminal.
    """

    def __init__(self, console: Console, phase: str, *, stays: bool) -> None:
        self._console = console
        self._phase = phase
        self._stays = stays
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._line: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # With most runs' detail this fits 80 columns. A longer detail wraps instead of being cut.
            columns = (TextColumn("{task.description:<10}"), BarColumn(bar_width=6), TaskProgressColumn())
            detail = TextColumn("{task.fields[detail]}", markup=False, table_column=Column())
            self._bar = Progress(*columns, detail, console=self._console, transient=not self._stays)
            self._task = self._bar.add_task(self._phase, total=1.0, detail="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, phase: str, fraction: float, detail: str) -> None:
        """Shows a report. fraction: of the whole run, 0 to 1."""
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, description=phase, detail=detail)
            return
        now = time.monotonic()
        if phase != self._line[0] or now - self._line[1] >= _LINE_EVERY:
            self._line = (phase, now)
            line = f"  {phase:<10} {fraction:>4.0%}  {detail}".rstrip()
            self._console.print(line, markup=False, soft_wrap=True)


def progress_detail(
    step: int,
    total_steps: int,
    loss_forget: float | None,
    loss_retain: float | None,
    seconds_left: float | None,
) -> str:
    """Step, losses and time left, as far as they are known."""
    parts = []
    if step:
        parts.append(f"step {step}/{total_steps}")
    losses = [
        f"{role} {loss:.3f}" for role, loss in (("forget", loss_forget), ("retain", loss_retain)) if loss is not None
    ]
    if losses:
        parts.append(f"loss {' '.join(losses)}")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return " · ".join(parts)
