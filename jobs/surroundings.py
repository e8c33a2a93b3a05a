"""Faults of the surroundings: a full disk, a lost database. They are nobody's job's fault, and pass."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs.signing.keys import SigningKeyMissing


class Fault(StrEnum):
    """What is the matter, as a slug."""

    disk_full = "disk-full"
    read_only = "read-only-storage"
    storage = "storage-error"
    open_files = "too-many-open-files"
    database = "database-gone"
    accelerator = "accelerator-gone"
    signing_key = "signing-key-missing"


class Sign(NamedTuple):
    """What shows a fault. errno: the system's name for it, such as ENOSPC, if it has one."""

    fault: Fault
    errno: str | None = None

    def __str__(self) -> str:
        return self.fault.value if self.errno is None else f"{self.fault} ({self.errno})"


_BY_ERRNO = {
    errno.ENOSPC: Fault.disk_full,
    errno.EDQUOT: Fault.disk_full,
    errno.EROFS: Fault.read_only,
    errno.EIO: Fault.storage,
    errno.ESTALE: Fault.storage,
    errno.EMFILE: Fault.open_files,
    errno.ENFILE: Fault.open_files,
}
SIGNS = (
    *(Sign(fault, errno.errorcode[number]) for number, fault in _BY_ERRNO.items()),
    *map(Sign, (Fault.database, Fault.accelerator, Fault.signing_key)),
)
# What torch's errors say when the device itself is lost, not the memory on it.
_LOST_DEVICE = ("no cuda-capable device", "device not ready", "device is lost", "uncorrectable ecc", "no cuda gpus")
_RUST = re.compile(r"\(os error (\d+)\)")


def sign_of(error: BaseException) -> Sign | None:
    """The fault that this error, or one of its causes, is a sign of; None for any other error."""
    for each in _with_causes(error):
        if (number := _errno(each)) in _BY_ERRNO:
            return Sign(_BY_ERRNO[number], errno.errorcode[number])
        if isinstance(each, OperationalError | InterfaceError | PoolTimeout):
            return Sign(Fault.database)
        if isinstance(each, SigningKeyMissing):
            return Sign(Fault.signing_key)
        if isinstance(each, RuntimeError) and any(sign in str(each).lower() for sign in _LOST_DEVICE):
            return Sign(Fault.accelerator)
    return None


def storage_sign(error: OSError) -> Sign:
    """What is the matter with storage that can't be used. A folder that is gone or closed is storage that fails."""
    return sign_of(error) or Sign(Fault.storage, errno.errorcode.get(error.errno or 0))


def _errno(error: BaseException) -> int | None:
    """The error's number. safetensors, which is written in Rust, has it in its message alone."""
    if isinstance(error, OSError):
        return error.errno
    found = _RUST.search(str(error)) if type(error).__module__.startswith("safetensors") else None
    return int(found[1]) if found else None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
