"""Child processes that can't outlive their parent, started as another account where one is named.

On Linux the kernel signals the child when its parent dies, however it dies. Elsewhere there is no such thing: there
the stack's register of processes (`local.register`) cleans up at the next start.

This file is also the wrapper itself: run as a script, it drops its rights, ties itself to its parent and becomes the
command that it was given. It therefore imports the standard library alone, and little of that.
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
_KEEP = "-"


@dataclass(frozen=True)
class Account:
    """The user and group that a child runs as. Only root can name another one than its own."""

    uid: int
    gid: int


def start_leashed(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, its output appended to `log`.

    The kernel ties the child to the *thread* that calls this: call it from one that lives as long as the child may.
    `environment` None hands on this process's own; of its open files the child gets `descriptors` only.
    Raises OSError when the log can't be opened.
    """
    rights = [str(account.uid), str(account.gid)] if account else [_KEEP, _KEEP]
    wrapper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), *rights]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the caller's own command, no shell
            [*wrapper, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd="/" if account else None,
            pass_fds=descriptors,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> int:
    """Sends each signal in turn and waits its number of seconds, then kills. Returns the exit status."""
    for signal_number, patience in steps:
        if process.poll() is not None:
            break
        process.send_signal(signal_number)
        try:
            return process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.wait()


def last_words(log: Path) -> str:
    """The last line that a child wrote to its log, to say why it didn't start."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was logged")


def _become(arguments: Sequence[str]) -> None:
    """Drops rights, ties this process to its parent and replaces itself by the command."""
    parent, death_signal, uid, gid, *command = arguments
    if uid != _KEEP:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        # After setuid, which would clear it. A parent that died before this line is noticed on the next one.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent process is gone")
    os.execvp(command[0], command)  # noqa: S606 - the caller's own command, no shell


if __name__ == "__main__":
    _become(sys.argv[1:])
