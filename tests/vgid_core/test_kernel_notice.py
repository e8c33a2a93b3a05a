"""bitsandbytes' notice about a kernel that we never use."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest


def test_a_kernel_that_is_never_used_is_no_warning_and_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    """As bitsandbytes says it when PEFT imports it, on CPUs with AVX512-BF16."""
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please make sure", "no kernels")
    log.warning("Failed to load something else: %s", "why")
    assert caplog.messages == ["Failed to load something else: why"]


def test_it_is_left_out_before_peft_is_imported() -> None:
    code = "import vgid_core.models.base, sys; assert 'peft' in sys.modules"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "gemm_4bit_forward" not in ran.stderr
