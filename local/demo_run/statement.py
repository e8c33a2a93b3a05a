"""Checks the downloaded adapter's statement offline, and that one changed byte is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.errors import LocalError
from vgid_verify.folder import verify_folder
from vgid_verify.keys import KeyFile

_TAMPERED_WITH = "adapter_model.safetensors"


def check_statement(adapter: Path, keys: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """What `vgid verify` says of the folder and of a copy with one changed byte. Raises LocalError if either is wrong.

    keys: the service's public keys, as it gave them. scratch: receives them and the copy.
    """
    key_file = scratch / "vgid-keys.json"
    key_file.write_text(json.dumps(keys), encoding="utf-8")
    known = KeyFile.load(key_file)
    report = verify_folder(adapter, known)
    if not report.passed:
        wrong = [f"{check.name} {check.detail}" for check in report.checks if not check.held]
        raise LocalError(f"the statement doesn't hold: {', '.join(wrong) or report.outcome}")
    yield f"vgid verify {adapter} --keys {key_file}: every signature and digest holds, {report.outcome}"
    copy = scratch / "changed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(adapter, copy)
    weights = copy / _TAMPERED_WITH
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    noticed = [check for check in verify_folder(copy, known).checks if not check.held]
    if not any(_TAMPERED_WITH in f"{check.name} {check.detail}" for check in noticed):
        raise LocalError("a changed byte isn't noticed")
    yield f"the same with one byte changed: refused, {noticed[0].name} {noticed[0].detail}"
    shutil.rmtree(copy)
