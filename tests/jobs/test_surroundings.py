"""Which errors are a sign that the surroundings are at fault."""

from __future__ import annotations

import errno

import pytest
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from jobs.surroundings import Fault, Sign, sign_of


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (OSError(errno.ENOSPC, "full"), Sign(Fault.disk_full, "ENOSPC")),
        (OSError(errno.EROFS, "read only"), Sign(Fault.read_only, "EROFS")),
        (OperationalError("select 1", {}, Exception()), Sign(Fault.database)),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Sign(Fault.accelerator)),
        (RuntimeError("CUDA out of memory"), None),
        (FileNotFoundError(errno.ENOENT, "gone"), None),
        (SafetensorError("I/O error: No space left on device (os error 28)"), Sign(Fault.disk_full, "ENOSPC")),
        (RuntimeError("somebody wrote (os error 28)"), None),
        (ValueError("of the job"), None),
    ],
)
def test_a_fault_is_known_by_its_error(error: Exception, sign: Sign | None) -> None:
    assert sign_of(error) == sign
    wrapped = RuntimeError("the adapter can't be written")
    wrapped.__cause__ = error
    assert sign_of(wrapped) == sign


def test_a_sign_names_the_fault_and_the_systems_word_for_it() -> None:
    assert [str(sign) for sign in (Sign(Fault.disk_full, "EDQUOT"), Sign(Fault.database))] == [
        "disk-full (EDQUOT)",
        "database-gone",
    ]
