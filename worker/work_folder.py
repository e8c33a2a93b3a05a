"""The private folder into which an attempt writes its adapter. It is deleted however the attempt ends."""

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
    """Makes a folder that this account alone can enter, and deletes it at the end of the block.

    A lock marks it as in use while this process lives, so that `delete_abandoned` finds what a killed worker left.
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
    """Deletes the work folders that killed workers have left."""
    root = work_root()
    with locked(root):
        for folder in root.glob(f"{_PREFIX}*"):
            if not _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    """Whether a living process has locked the folder. One without a lock file is half made or half deleted."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def work_root() -> Path:
    """The folder of all work folders of this account. Raises PermissionError when another account can enter it."""
    return private_folder(Path(tempfile.gettempdir()) / f"vgid-work-{os.geteuid()}")


def private_folder(root: Path) -> Path:
    """Makes the folder unless it is there. Raises PermissionError when another account can enter it."""
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} isn't a private folder of this account")
    return root
