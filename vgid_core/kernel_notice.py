"""Suppresses one warning of bitsandbytes that doesn't concern our users."""

from __future__ import annotations

import logging

_MESSAGE = "Failed to load CPU gemm_4bit_forward"


def suppress() -> None:
    """Filters the warning out. Call before PEFT is imported, which imports bitsandbytes if that is installed.

    On a CPU with AVX512-BF16, bitsandbytes warns about a kernel that it would like to download. It serves inference
    alone; `four_bit.keep_differentiable` keeps 4-bit weights away from it.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_other_message)


def _is_other_message(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_MESSAGE)
