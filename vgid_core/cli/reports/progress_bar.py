"""Shows a run's progress: a live bar on a terminal, else lines for each phase and every few seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from vgid_core.progress import Progress

_LINE_EVERY = 5.0  # seconds between plain lines within one phase


class ProgressView:
    """Shows one run's progress on `console`. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._line: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # With most runs' detail this fits 80 columns. A longer detail wraps instead of being cut.
            columns = (TextColumn("{task.description:<10}"), BarColumn(bar_width=6), TaskProgressColumn())
            detail = TextColumn("{task.fields[detail]}", table_column=Column())
            self._bar = Bar(*columns, detail, console=self._console, transient=True)
            self._task = self._bar.add_task("loading", total=1.0, detail="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Shows a report."""
        title = str(progress.phase)
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.fraction, description=title, detail=detail_of(progress))
            return
        now = time.monotonic()
        if title != self._line[0] or now - self._line[1] >= _LINE_EVERY:
            self._line = (title, now)
            self._console.print(f"  {title:<10} {progress.fraction:>4.0%}  {detail_of(progress)}".rstrip())


def detail_of(progress: Progress) -> str:
    """Step, losses and time left, as far as they are known."""
    parts = []
    if progress.step:
        parts.append(f"step {progress.step}/{progress.total_steps}")
    losses = [
        f"{role} {loss:.3f}"
        for role, loss in (("forget", progress.loss_forget), ("retain", progress.loss_retain))
        if loss is not None
    ]
    if losses:
        parts.append(f"loss {' '.join(losses)}")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Formats seconds in at most two units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
