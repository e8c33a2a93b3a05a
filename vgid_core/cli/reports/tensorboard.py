"""TensorBoard events of a run: losses, gradient norm and learning rate by step, metrics before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vgid_core.cli.inputs.run_file import RunFileError
from vgid_core.progress import Phase, Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from vgid_core.evaluation.metric import Metric
    from vgid_core.run import Stage


def require_tensorboard() -> None:
    """Raises RunFileError if TensorBoard isn't installed."""
    if find_spec("tensorboard") is None:
        raise RunFileError("--tensorboard needs the package 'tensorboard': pip install '.[tensorboard]'")


class TensorBoardEvents:
    """Writes the progress and metrics of one run. No text of the data gets here."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer
        self._last = 0

    def step(self, progress: Progress) -> None:
        """Writes a step's values, once."""
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
        """Writes metrics: those before training at step 0, those after it at the last step."""
        at = 0 if stage == "before" else self._last
        for metric in metrics:
            self._writer.add_scalar(f"{metric.name}/{metric.split}", metric.value, at)


@contextmanager
def tensorboard_events(folder: Path | None) -> Iterator[TensorBoardEvents | None]:
    """Yields events that are written into `folder`; None without a folder."""
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    try:
        yield TensorBoardEvents(writer)
    finally:
        writer.close()
