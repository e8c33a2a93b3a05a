"""`vgid demo` as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from local.child_process import start_child
from local.postgres import EmbeddedPostgres
from tests.waiting import eventually

SHOWN = (
    "1/8",
    "This is Lorcan Sinclair.",
    "202 Accepted",
    "distilling",
    "forgotten: every target of the verdict holds",
    "answer prob.",
    "photos it never saw",
    "I do not know this person.",
    "as announced",
    "15 of 15 answers are the same",
    "2 requests: 2 still forgotten",
    "Not shown",
)


@pytest.mark.slow
def test_the_demo_forgets_checks_the_adapter_and_leaves_nothing_running(tmp_path: Path) -> None:
    home, picture = tmp_path / "home", tmp_path / "docs" / "picture.png"
    variables = {"VGID_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vgid_client.cli", "demo", "--picture", str(picture)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for words in SHOWN:
        assert words in done.stdout, words
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1000
    assert _processes_of(home) == []
    logged = (home / "logs" / "worker.log").read_text(encoding="utf-8")
    assert [words for words in ("Loading weights", "FutureWarning") if words in logged] == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["*demo-data*", "logs/worker.log"], ids=["writing its data", "starting its worker"])
def test_a_demo_that_is_killed_early_leaves_no_process_and_can_run_again(tmp_path: Path, moment: str) -> None:
    home = tmp_path / "home"
    for words in (None, "2/8"):
        log = tmp_path / f"{words is None}.txt"
        command = [sys.executable, "-m", "vgid_client.cli", "demo"]
        demo = start_child(command, log=log, environment=os.environ | {"VGID_HOME": str(home)})
        eventually(lambda w=words, f=log: w in f.read_text() if w else list(home.glob(moment)), seconds=60, every=0.005)
        demo.kill()
        demo.wait()
        eventually(lambda: not _processes_of(home), seconds=10)
    EmbeddedPostgres(home / "postgres").destroy()


def _processes_of(home: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _belongs_to(process, home)]


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    try:
        return any(str(home) in value for value in (*process.cmdline(), *process.environ().values()))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
