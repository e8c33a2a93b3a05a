"""`make` on machines that lack something: it prints one sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local.home import Home
from local.postgres import EmbeddedPostgres
from tests.processes import has_ended
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program is not None
    # If the tests themselves run under make, they mustn't pass on its flags and depth.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def script(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_make_lists_its_targets(checkout: Path) -> None:
    assert make(checkout).stdout.splitlines()[0].startswith("make demo")


def test_without_python_it_names_the_version_it_needs(checkout: Path) -> None:
    done = make(checkout, "demo", path=_only(checkout, "sh"))
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr


def test_an_old_python_is_refused(checkout: Path) -> None:
    old = script(checkout / "oldpython", "exit 1")
    done = make(checkout, "demo", f"PYTHON={old}")
    assert done.returncode != 0
    assert "isn't Python 3.11 or newer" in done.stderr


def test_a_python_without_its_venv_package_gets_the_package_named(checkout: Path) -> None:
    bare = script(checkout / "bare", f'case "$2" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"')
    done = make(checkout, "demo", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_killed_make_ends_its_demo(checkout: Path) -> None:
    (checkout / "local").symlink_to(ROOT / "local")
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    script(programs / "python", f'exec "{sys.executable}" "$@"')
    script(programs / "vgid", 'echo "$$" >demo.pid\nexec sleep 600')
    for made in ("installed", "installed-dev"):
        (programs.parent / made).touch()
    command = shutil.which("make")
    assert command is not None
    running = subprocess.Popen([command, "demo"], cwd=checkout)
    pid = checkout / "demo.pid"
    demo = psutil.Process(int(eventually(lambda: pid.exists() and pid.read_text().strip())))

    running.kill()
    running.wait()

    eventually(lambda: has_ended(demo), seconds=5)


def test_make_clean_deletes_the_ledger_wherever_it_lies(checkout: Path) -> None:
    (checkout / "local").symlink_to(ROOT / "local")
    python = script(checkout / "python", f'exec "{sys.executable}" "$@"')
    (checkout / ".venv" / "bin").mkdir(parents=True)
    python.rename(checkout / ".venv" / "bin" / "python")
    ledger = EmbeddedPostgres(Home(checkout / ".vgid").postgres)
    ledger.start()
    with ledger.connect() as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    ledger.stop()
    assert row is not None
    assert Path(row[0]).is_dir()

    done = make(checkout, "clean")

    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(row[0]).exists()
    assert not Path(row[0]).parent.exists()
    assert not (checkout / ".vgid").exists()
    assert not (checkout / ".venv").exists()
    again = make(checkout, "clean")
    assert (again.returncode, again.stderr) == (0, "")


def _only(folder: Path, *programs: str) -> str:
    """A PATH with these programs and no others."""
    place = folder / "bin"
    place.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None
        (place / name).symlink_to(found)
    return str(place)
