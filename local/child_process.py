"""Starts child processes that die with their parent, under another account if one is given.

On Linux the kernel signals a child when its parent dies, even after `kill -9`. On other systems such a child lives on
until the next start ends it (`local.supervisor.PidFile`).

A child first runs this file as a script. The script drops its rights, asks the kernel for that signal, and then
replaces itself by the given command. It imports the standard library alone:

    python -I -S child_process.py PARENT DEATH_SIGNAL ACCOUNT COMMAND...

PARENT is the parent's process id. DEATH_SIGNAL is a number. ACCOUNT is `UID:GID`, or `-` for the parent's own account.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OWN_ACCOUNT = "-"


@dataclass(frozen=True)
class Account:
    """The user and group that a child runs as. Only root can use another one than its own."""

    uid: int
    gid: int


def start_child(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, and appends its output to `log` (`local.log_file`).

    The kernel ties the child to the *thread* that calls this. So that thread must live as long as the child.
    environment: None passes on this process's own. descriptors: the only open files that the child inherits.
    Raises OSError when the log can't be opened.
    """
    account_word = f"{account.uid}:{account.gid}" if account else _OWN_ACCOUNT
    script = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), account_word]
    # Imported late: as a script, this file has the standard library alone.
    from local.log_file import open_log

    with open_log(log) as output:
        return subprocess.Popen(  # noqa: S603 - the caller's own command, no shell
            [*script, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd="/" if account else None,
            pass_fds=descriptors,
            start_new_session=True,
        )


def stop_child(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> int:
    """Sends each signal and waits for its number of seconds, then kills the child. Returns the exit status."""
    for signal_number, seconds in steps:
        if process.poll() is not None:
            break
        process.send_signal(signal_number)
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.wait()


def last_log_line(log: Path) -> str:
    """The last line of a child's log, for the error that says why it didn't start."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was logged")


def _run_command(parent: str, death_signal: str, account: str, *command: str) -> None:
    """Replaces this process by `command`, with the account's rights and tied to its parent."""
    if account != _OWN_ACCOUNT:
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which would clear the signal. If the parent died before this line, the next one notices.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent process is gone")
    os.execvp(command[0], command)  # noqa: S606 - the caller's own command, no shell


if __name__ == "__main__":
    _run_command(*sys.argv[1:])
