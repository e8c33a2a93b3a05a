"""Shows jobs and figures on a terminal: tables, and a progress bar. Without a terminal the bar becomes plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from vgid_client.models import Job, JobPage, Metric, Model

_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "default"}
_NAMES = {"rouge_l": "ROUGE-L", "answer_probability": "answer probability"}
_NEVER_KNOWN = "the model never knew the forget set: its adapter is evidence of nothing"
_LINE_SECONDS = 5.0  # between two plain progress lines within one phase


def jobs_table(page: JobPage) -> Table:
    """A table with a row per job. On 80 columns, only the client's own id is wrapped."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for name in ("job", "state", "created"):
        table.add_column(name, no_wrap=True)
    table.add_column("your id", overflow="fold")
    for job in page.jobs:
        state = f"[{_STYLES.get(job.state, 'default')}]{job.state}[/]"
        table.add_row(job.id, state, f"{job.created_at.astimezone():%Y-%m-%d %H:%M}", escape(job.external_id or ""))
    return table


def job_table(job: Job) -> Table:
    """A table of one job's fields, a line each. Empty fields are left out."""
    lines: list[tuple[str, str | None]] = [
        ("job", job.id),
        ("state", job.state + (" (being stopped)" if job.cancel_requested and not job.ended else "")),
        ("phase", None if job.ended else job.phase),
        ("progress", f"{job.progress.fraction:.0%}, step {job.progress.step} of {job.progress.total_steps}"),
        ("model", job.model),
        ("your id", job.external_id),
        ("legal basis", job.legal_basis),
        ("due", f"{job.due_at:%Y-%m-%d}" if job.due_at else None),
        ("attempt", f"{job.attempt} of {job.max_attempts}" if job.attempt else None),
        ("error", _error_text(job)),
        ("stopped because", job.stop_reason),
        ("forget set", _never_known_warning(job)),
        (
            "inputs deleted",
            f"{job.inputs_deleted_at.astimezone():%Y-%m-%d %H:%M:%S}" if job.inputs_deleted_at else None,
        ),
        ("artifact", f"{job.artifact.size_bytes} bytes, sha256 {job.artifact.sha256}" if job.artifact else None),
    ]
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(name, value)
    return table


def metrics_table(rows: Iterable[Metric]) -> Table:
    """A table with a row per set and figure: before, after, and over how many pairs."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("set")
    table.add_column("figure")
    for name in ("before", "after", "pairs"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.split,
            _NAMES.get(row.name, row.name),
            format_figure(row.before),
            format_figure(row.after),
            str(row.pairs),
        )
    return table


def format_figure(figure: float | None) -> str:
    """The figure with three decimals, or a dash if it wasn't measured."""
    return "–" if figure is None else f"{figure:.3f}"


def models_table(models: Iterable[Model]) -> Table:
    """A table with a row per model and its retain sets."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "title", "retain sets"):
        table.add_column(name)
    for model in models:
        table.add_row(model.name, model.title or "", ", ".join(model.retain_sets))
    return table


class JobDisplay:
    """Shows a running job: a progress bar on a terminal, else a line per phase and one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._line: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # With the detail, this fits into 80 columns.
            columns = (TextColumn("{task.description:<10}"), BarColumn(bar_width=12), TaskProgressColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[detail]}"), console=self._console)
            self._task = self._bar.add_task("waiting", total=1.0, detail="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, job: Job) -> None:
        """Shows the job's present state."""
        title = job.state if job.ended else job.phase or job.state
        fraction, detail = job.progress.fraction, _progress_detail(job)
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, description=title, detail=detail)
            return
        now = time.monotonic()
        if title != self._line[0] or now - self._line[1] >= _LINE_SECONDS:
            self._line = (title, now)
            self._console.print(f"  {title:<12} {fraction:>4.0%}  {detail}", soft_wrap=True)


def _progress_detail(job: Job) -> str:
    """The job's step, losses and remaining time, as far as they are known. Once it has ended, its error or warning."""
    if job.ended:
        return _error_text(job) or _never_known_warning(job) or ""
    progress = job.progress
    parts = []
    if progress.total_steps:
        parts.append(f"step {progress.step}/{progress.total_steps}")
    if progress.loss_forget is not None:
        retain = "" if progress.loss_retain is None else f" (retain {progress.loss_retain:.3f})"
        parts.append(f"loss {progress.loss_forget:.3f}{retain}")
    if progress.estimated_finish_at is not None:
        left = (progress.estimated_finish_at - datetime.now(UTC)).total_seconds()
        parts.append(f"{max(0, round(left))} s left")
    return " · ".join(parts)


def _never_known_warning(job: Job) -> str | None:
    return _NEVER_KNOWN if job.knew_forget_set is False else None


def _error_text(job: Job) -> str | None:
    return (job.error.detail or job.error.type) if job.error else None
