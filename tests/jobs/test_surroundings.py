"""Which errors are a sign that the surroundings are at fault."""

from __future__ import annotations

import errno

import pytest
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from jobs.surroundings import Fault, errno_name, fault_of


@pytest.mark.parametrize(
    ("error", "fault", "name"),
    [
        (OSError(errno.ENOSPC, "full"), Fault.disk_full, "ENOSPC"),
        (OSError(errno.EROFS, "read only"), Fault.read_only, "EROFS"),
        (OperationalError("select 1", {}, Exception()), Fault.database, None),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Fault.accelerator, None),
        (RuntimeError("CUDA out of memory"), None, None),
        (FileNotFoundError(errno.ENOENT, "gone"), None, "ENOENT"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), Fault.disk_full, "ENOSPC"),
        (RuntimeError("somebody wrote (os error 28)"), None, None),
        (ValueError("of the job"), None, None),
    ],
)
def test_a_fault_is_known_by_its_error(error: Exception, fault: Fault | None, name: str | None) -> None:
    assert (fault_of(error), errno_name(error)) == (fault, name)
    wrapped = RuntimeError("the adapter can't be written")
    wrapped.__cause__ = error
    assert (fault_of(wrapped), errno_name(wrapped)) == (fault, name)
