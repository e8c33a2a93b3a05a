"""What a run that fails holds on to is let go of, so that there is memory for whatever comes next."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

from vgid_core.errors import OutOfMemory

Result = TypeVar("Result")


def within_memory(run: Callable[[], Result], told: str) -> Result:
    """What `run` returns; where the accelerator's memory runs out, OutOfMemory with this text is raised instead.

    Neither that error nor anything else here keeps what filled the memory.
    """
    with suppress(torch.OutOfMemoryError):
        return run()
    # Outside of any handler: torch's error would be this one's context, and with it the frames that hold the tensors,
    # which `from None` hides and doesn't drop.
    let_go()
    raise OutOfMemory(told)


def let_go() -> None:
    """Frees what nothing refers to any more: cycles of objects, which models are full of, then the device's memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
