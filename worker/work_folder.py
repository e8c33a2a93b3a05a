"""Where an attempt writes its adapter before it is stored: private, and gone afterwards whatever happened."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.storage.folder_lock import locked

_LOCK = ".in-use"
_PREFIX = "attempt-"


@contextmanager
def work_folder() -> Iterator[Path]:
    """A new folder that this account alone can enter, deleted at the end.

    It is locked for as long as this process lives, so that `delete_abandoned` knows what a killed worker left.
    """
    root = work_root()
    with locked(root):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with lock:
            output = folder / "output"
            output.mkdir(mode=0o700)
            yield output
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_abandoned() -> None:
    """Deletes the folders of workers that were killed."""
    root = work_root()
    with locked(root):
        for folder in root.glob(f"{_PREFIX}*"):
            if not _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    """Whether a living process has locked the folder. Without a lock file it was never finished, or is half deleted."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def work_root() -> Path:
    """One folder for all workers of this account. Raises PermissionError when it is somebody else's."""
    root = Path(tempfile.gettempdir()) / f"vgid-work-{os.geteuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} isn't a private folder of this account")
    return root
