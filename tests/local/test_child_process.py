"""Child processes: each ends with its parent, can be stopped, and has its account's rights alone."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from local.child_process import Account, start_child, stop_child
from tests.processes import has_ended
from tests.waiting import eventually

_PARENT = """
import signal, sys
from pathlib import Path
from local.child_process import start_child
child = start_child([sys.executable, "-c", "import signal; signal.pause()"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
signal.pause()
"""


def test_a_child_dies_with_its_killed_parent(tmp_path: Path):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, tmp_path / "log"], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert not has_ended(child)

    parent.kill()
    parent.communicate()

    eventually(lambda: has_ended(child), seconds=10)


def test_a_child_that_ignores_its_signals_is_killed(tmp_path: Path):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    log = tmp_path / "log"
    process = start_child([sys.executable, "-c", stubborn], log=log)
    eventually(lambda: log.read_text().startswith("1"))
    assert stop_child(process, [(signal.SIGTERM, 0.2)]) == -signal.SIGKILL


def test_a_child_has_the_rights_of_its_account_alone(tmp_path: Path):
    """Only root can use another account than its own. Without root, the test uses its own."""
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    log = tmp_path / "log"

    assert start_child(["id", "-G"], log=log, account=account).wait(timeout=20) == 0
    assert start_child(["id", "-u"], log=log, account=account).wait(timeout=20) == 0

    groups = [nobody.pw_gid] if account else sorted({os.getegid(), *os.getgroups()})
    said = log.read_text().splitlines()
    assert sorted(map(int, said[0].split())) == groups
    assert said[1] == str(account.uid if account else os.geteuid())
