"""The entry point of an attempt's process: python -m worker.attempt.process PARENT [MODEL]

The process reads its settings from the environment and its job from one line on its standard input
(`worker.attempt_spec`). With a MODEL, it is a spare: before the job arrives, it imports what a job needs and reads the
model into host memory. It never touches the accelerator before, because another job is running there.

Standard input is a pipe from the supervisor. When the pipe closes, the supervisor is dead, and this process ends. On
Linux the kernel also kills it with the thread that started it, even if it is frozen. Exit status 0 means that the job's
row says how the attempt ended, or that the job isn't ours any more. About any other status the supervisor decides.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import NoReturn

from worker.attempt_spec import AttemptSpec

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> NoReturn:
    """Preloads the model if one is given, waits for the job, runs it, and ends this process."""
    _die_with_parent(int(arguments[0]))
    specs: SimpleQueue[AttemptSpec] = SimpleQueue()
    Thread(target=_listen, args=(specs,), name="parent", daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s attempt %(process)d %(message)s")
    # Imported late: this process must be tied to its parent before anything takes time.
    from jobs.settings import get_settings
    from worker.attempt.preload import preload
    from worker.attempt.run import run_attempt

    # If the job is here already, nothing is preloaded: the attempt checks the job first, before it loads torch.
    base = preload(get_settings(), arguments[1]) if arguments[1:] and specs.empty() else None
    status = run_attempt(specs.get(), get_settings(), base)
    logging.shutdown()
    os._exit(status)  # an orderly exit would take torch apart, and the next job would wait a second for that


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)


def _listen(specs: SimpleQueue[AttemptSpec]) -> None:
    """Passes the spec on, then ends this process once the supervisor is dead."""
    pipe = sys.stdin.fileno()  # sys.stdin itself has a lock, which a blocked thread would hold at exit
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(pipe, 4096) or os._exit(1)
    specs.put(AttemptSpec.from_line(line))
    os.read(pipe, 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
