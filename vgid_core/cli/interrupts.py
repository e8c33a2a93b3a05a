"""Ctrl-C in a run that leaves checkpoints: the step at hand is done and written down before the run ends."""

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


class Stopping:
    """What SIGINT and SIGTERM ask of a run.

    From its first whole step to its last, the first of them waits for the end of the step. Before and after, it ends
    run at once, and so does the second: nothing is to be written down yet, or all is, or someone is in a hurry.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._among_steps = False
        self._asked = False
        self.loaded = False

    @property
    def asked(self) -> bool:
        """Whether the run is to end after this step."""
        return self._asked

    def heard(self, progress: Progress) -> None:
        """Takes notice of where the run is. Raises KeyboardInterrupt where a signal came too late for the last step."""
        self.loaded |= progress.phase is not Phase.loading
        self._among_steps = progress.phase is Phase.distilling and progress.step > 0
        if self._asked and not self._among_steps:
            raise KeyboardInterrupt

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        if self._asked or not self._among_steps:
            raise KeyboardInterrupt
        self._asked = True
        with suppress(RuntimeError):  # what was interrupted may be in the midst of printing
            self._console.print("Stopping after this step; once more stops at once.")


@contextmanager
def written_down_first(checkpoint: Path | None, console: Console) -> Iterator[Stopping]:
    """Has the two signals end a run as `Stopping` says, if it leaves checkpoints.

    Raises KeyboardInterrupt, with a word on how to go on where there is something to go on from. Where several
    processes share the run they all get the signal, and end at once: none can finish a step without the others.
    """
    stopping = Stopping(console)
    if checkpoint is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield stopping
        return
    before = {number: signal.signal(number, stopping.take) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    except (KeyboardInterrupt, RunStopped):
        # Until the model is loaded nobody has looked whose checkpoint it is.
        if stopping.loaded and _is_left(checkpoint):
            raise KeyboardInterrupt(f"The same command goes on from the checkpoint in {checkpoint}.") from None
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def checkpoint_named(folder: Path | None) -> Iterator[None]:
    """Has an error about a checkpoint name its file and a way out: the library names none, lest a service show it."""
    try:
        yield
    except CheckpointUnusable as error:
        if folder is None:
            raise
        from vgid_core.training.checkpoints import checkpoint_file

        way_out = f"give another folder, or delete {checkpoint_file(folder)} to begin anew"
        raise CheckpointUnusable(f"--checkpoint: {error}; {way_out}") from None


def _is_left(checkpoint: Path) -> bool:
    from vgid_core.training.checkpoints import (
        has_checkpoint,  # loads torch, which a run has loaded before anything could be left
    )

    return has_checkpoint(checkpoint)
