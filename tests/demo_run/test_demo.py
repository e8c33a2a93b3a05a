"""`vgid demo` as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

SHOWN = (
    "1/6",
    "This is Lorcan Sinclair.",
    "202 Accepted",
    "distilling",
    "answer prob.",
    "photos it never saw",
    "I do not know this person.",
    "as announced",
    "15 of 15 answers are the same",
    "Not shown",
)


@pytest.mark.slow
def test_it_forgets_checks_the_adapter_and_leaves_nothing_running(tmp_path: Path) -> None:
    home, picture = tmp_path / "home", tmp_path / "docs" / "picture.png"
    told = {"VGID_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vgid_client.cli", "demo", "--picture", str(picture)]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for words in SHOWN:
        assert words in done.stdout, words
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1000
    assert [process.pid for process in psutil.process_iter() if _belongs_to(process, home)] == []


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    try:
        return any(str(home) in value for value in (*process.cmdline(), *process.environ().values()))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
