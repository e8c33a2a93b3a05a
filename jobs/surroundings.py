"""Faults of the surroundings: a full disk, a lost database. They are nobody's job's fault, and pass."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from enum import StrEnum

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


_BY_ERRNO = {
    errno.ENOSPC: Fault.disk_full,
    errno.EDQUOT: Fault.disk_full,
    errno.EROFS: Fault.read_only,
    errno.EIO: Fault.storage,
    errno.ESTALE: Fault.storage,
    errno.EMFILE: Fault.open_files,
    errno.ENFILE: Fault.open_files,
}
# What torch's errors say when the device itself is lost, not the memory on it.
_RUST = re.compile(r"\(os error (\d+)\)")
_LOST_DEVICE = ("no cuda-capable device", "device not ready", "device is lost", "uncorrectable ecc", "no cuda gpus")


def fault_of(error: BaseException) -> Fault | None:
    """The fault that this error, or one of its causes, is a sign of; None for any other error."""
    for each in _with_causes(error):
        if (number := _errno(each)) in _BY_ERRNO:
            return _BY_ERRNO[number]
        if isinstance(each, OperationalError | InterfaceError | PoolTimeout):
            return Fault.database
        if isinstance(each, SigningKeyMissing):
            return Fault.signing_key
        if isinstance(each, RuntimeError) and any(sign in str(each).lower() for sign in _LOST_DEVICE):
            return Fault.accelerator
    return None


def errno_name(error: BaseException) -> str | None:
    """Such as ENOSPC, of the error or the first of its causes that has one."""
    numbers = (_errno(each) for each in _with_causes(error))
    return next((errno.errorcode.get(number, str(number)) for number in numbers if number is not None), None)


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
