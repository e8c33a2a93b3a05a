"""Out-of-memory errors that keep no tensors alive, so that the process can continue."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

from vgid_core.errors import OutOfMemory

Result = TypeVar("Result")


def within_memory(run: Callable[[], Result], message: str) -> Result:
    """Returns what `run` returns. Raises OutOfMemory(message) if it runs out of the accelerator's memory.

    The error holds no reference to the tensors that filled the memory.
    """
    with suppress(torch.OutOfMemoryError):
        return run()
    # Raised outside of any handler. Inside, torch's error would be its context, whose traceback keeps the frames and
    # their tensors alive; `from None` only hides it.
    free_memory()
    raise OutOfMemory(message)


def free_memory() -> None:
    """Collects reference cycles, which models are full of, and returns cached memory to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
