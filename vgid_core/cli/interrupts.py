"""Ctrl-C in a run with checkpoints: the run finishes and saves the current step before it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from vgid_core.errors import CheckpointUnusable, RunStopped
from vgid_core.progress import Phase, Progress


class StopRequest:
    """Whether a signal asked the run to stop after its step.

    Between the first and the last training step, the first SIGINT or SIGTERM requests a stop after the step. At other
    times, when there is nothing to save, and the second time, a signal ends the run at once.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._among_steps = False
        self._requested = False
        self.loaded = False

    @property
    def requested(self) -> bool:
        """Whether the run is to end after this step."""
        return self._requested

    def observe(self, progress: Progress) -> None:
        """Follows the run's progress. Raises KeyboardInterrupt if a stop was requested during the last step."""
        self.loaded |= progress.phase is not Phase.loading
        self._among_steps = progress.phase is Phase.distilling and progress.step > 0
        if self._requested and not self._among_steps:
            raise KeyboardInterrupt

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self._requested or not self._among_steps:
            raise KeyboardInterrupt
        self._requested = True
        with suppress(RuntimeError):  # the interrupted code can be printing itself
            self._console.print("Stopping after this step; once more stops at once.")


@contextmanager
def stop_after_checkpoint(checkpoint: Path | None, console: Console) -> Iterator[StopRequest]:
    """Within the context, SIGINT and SIGTERM act as `StopRequest` says, if the run has checkpoints.

    Raises KeyboardInterrupt, with a hint on how to resume if there is a checkpoint. In a multi-process run the signals
    end all processes at once, since none can finish a step alone.
    """
    stop_request = StopRequest(console)
    if checkpoint is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield stop_request
        return
    before = {number: signal.signal(number, stop_request.on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop_request
    except (KeyboardInterrupt, RunStopped):
        # Before the model is loaded, the checkpoint isn't checked and can be another run's.
        if stop_request.loaded and _checkpoint_exists(checkpoint):
            raise KeyboardInterrupt(f"The same command goes on from the checkpoint in {checkpoint}.") from None
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def name_checkpoint_in_errors(folder: Path | None) -> Iterator[None]:
    """Adds the file and a way out to errors about checkpoints. The library names no paths: a service could show one."""
    try:
        yield
    except CheckpointUnusable as error:
        if folder is None:
            raise
        from vgid_core.training.checkpoints import checkpoint_file

        way_out = f"give another folder, or delete {checkpoint_file(folder)} to begin anew"
        raise CheckpointUnusable(f"--checkpoint: {error}; {way_out}") from None


def _checkpoint_exists(checkpoint: Path) -> bool:
    from vgid_core.training.checkpoints import (
        has_checkpoint,  # imports torch, which a run with a checkpoint has imported already
    )

    return has_checkpoint(checkpoint)
