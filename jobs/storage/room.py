"""Whether a folder takes what is to be written: there is room, and a write succeeds."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile

_TRIAL_BYTES = 4096


def require_room(folder: Path, free_bytes: int) -> None:
    """Raises OSError: ENOSPC where fewer bytes are free in the folder's file system, else what a trial write meets.

    The trial file has no name, so a crash leaves nothing.
    """
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < free_bytes:
        raise OSError(errno.ENOSPC, "fewer bytes are free than there must be")
    with TemporaryFile(dir=folder) as trial:
        trial.write(bytes(_TRIAL_BYTES))
        trial.flush()
        os.fsync(trial.fileno())
