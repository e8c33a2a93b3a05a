"""The next start ends what a killed stack left, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest

from local.errors import LocalError
from local.home import Home
from local.leash import start_leashed, stop
from local.register import Register


@pytest.fixture
def bystander(tmp_path: Path):
    process = start_leashed([sys.executable, "-c", "import signal; signal.pause()"], log=tmp_path / "log")
    yield process
    stop(process, [])


def test_a_process_that_was_noted_is_ended(tmp_path: Path, bystander):
    Register(tmp_path / "processes.json").add(bystander.pid)

    Register(tmp_path / "processes.json").end_leftovers()

    assert not psutil.pid_exists(bystander.pid)
    assert not (tmp_path / "processes.json").exists()


def test_another_process_that_got_the_same_id_is_left_alone(tmp_path: Path, bystander):
    started = psutil.Process(bystander.pid).create_time()
    (tmp_path / "processes.json").write_text(json.dumps({str(bystander.pid): started - 60}))

    Register(tmp_path / "processes.json").end_leftovers()

    assert bystander.poll() is None


def test_a_file_that_was_cut_off_is_no_obstacle(tmp_path: Path):
    (tmp_path / "processes.json").write_text('{"12')
    Register(tmp_path / "processes.json").end_leftovers()


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
