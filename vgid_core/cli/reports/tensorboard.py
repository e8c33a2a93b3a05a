"""A run's figures as TensorBoard events: losses, gradient norm and learning rate by step, metrics before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vgid_core.cli.run_file import RunFileError
from vgid_core.progress import Phase, Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from vgid_core.evaluation.metric import Metric
    from vgid_core.run import Stage


def require_tensorboard() -> None:
    """Raises RunFileError when the package isn't installed."""
    if find_spec("tensorboard") is None:
        raise RunFileError("--tensorboard needs the package 'tensorboard': pip install '.[tensorboard]'")


class Events:
    """Writes reports and metrics of one run; texts of the data never get here."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer
        self._last = 0

    def step(self, progress: Progress) -> None:
        """A step's figures, once."""
        if progress.phase is not Phase.distilling or progress.step == self._last:
            return
        self._last = progress.step
        figures = {
            "loss/forget": progress.loss_forget,
            "loss/retain": progress.loss_retain,
            "training/gradient_norm": progress.gradient_norm,
            "training/learning_rate": progress.learning_rate,
        }
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, progress.step)

    def metrics(self, stage: Stage, metrics: Sequence[Metric]) -> None:
        """Figures before training stand at step 0, those after it at the last step."""
        at = 0 if stage == "before" else self._last
        for metric in metrics:
            self._writer.add_scalar(f"{metric.name}/{metric.split}", metric.value, at)


@contextmanager
def events_in(folder: Path | None) -> Iterator[Events | None]:
    """Events written into `folder`, complete at the end; None without one."""
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    try:
        yield Events(writer)
    finally:
        writer.close()
