"""The home of a stack: one process at a time holds it, and its files are private."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.home import Home


def test_a_home_belongs_to_one_stack_at_a_time(tmp_path: Path):
    home = Home(tmp_path / "home")
    with home.locked():
        assert home.folder.stat().st_mode & 0o077 == 0
        with pytest.raises(LocalError, match="already"), Home(tmp_path / "home").locked():
            pass
    with home.locked():
        pass


def test_the_secret_key_is_made_once_for_its_owner_alone(tmp_path: Path):
    home = Home(tmp_path)
    key = home.secret_key()
    assert Home(tmp_path).secret_key() == key
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600
