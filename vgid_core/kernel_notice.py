"""One warning of another library that isn't for our readers, and no other one."""

from __future__ import annotations

import logging

_MESSAGE = "Failed to load CPU gemm_4bit_forward"


def leave_out() -> None:
    """Call it before PEFT is imported, which imports bitsandbytes wherever that is installed.

    On a CPU with AVX512-BF16, bitsandbytes then warns of a kernel that it would like to download. It is one for
    inference alone, and `nf4.keep_differentiable` keeps 4-bit weights away from it; most runs have no such weights.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_another)


def _is_another(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_MESSAGE)
