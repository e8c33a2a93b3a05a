"""Methods of unlearning, one small file each. A new one is a file here and its name in `AnyMethod`."""

from __future__ import annotations

from vgid_core.methods.base import Method, Run
from vgid_core.methods.vgid import Vgid

AnyMethod = Vgid

__all__ = ["AnyMethod", "Method", "Run", "Vgid"]
