"""Shows a run's progress."""

from __future__ import annotations

from terminal.progress_bar import ProgressBar, progress_detail
from vgid_core.progress import Progress


def show_progress(bar: ProgressBar, progress: Progress) -> None:
    """Shows a report on `bar`."""
    losses = (progress.loss_forget, progress.loss_retain)
    detail = progress_detail(progress.step, progress.total_steps, *losses, progress.seconds_left)
    bar.show(progress.phase, progress.fraction, detail)
