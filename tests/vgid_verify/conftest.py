from __future__ import annotations

from pathlib import Path

import pytest

from tests.signing_keys import Key
from tests.vgid_verify.signed import signed_folder


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key.make(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, key: Key) -> Path:
    """A signed folder whose verdict is passed."""
    return signed_folder(tmp_path / "adapter", key)
