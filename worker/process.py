"""The process of one attempt: python -m worker.process PARENT [MODEL]

The only process that loads torch and owns the accelerator. It reads its settings from the environment and its job from
one line on its standard input (`worker.attempt_spec`). Told a MODEL, it gets ready ahead of the job: it imports what a
job needs and reads the model into host memory, never onto the accelerator, which belongs to a job that runs.

Standard input is a pipe from the supervisor: when that closes, the supervisor is dead, and so is this process. Linux
also kills it with the thread that started it, frozen or not. Exit status 0 means that the row says how it went, or
that the job isn't ours any more; anything else is for the supervisor to judge.
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
    """Gets ready, waits for the job, runs it and ends this process."""
    _die_with_parent(int(arguments[0]))
    specs: SimpleQueue[AttemptSpec] = SimpleQueue()
    Thread(target=_listen, args=(specs,), name="parent", daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s attempt %(process)d %(message)s")
    # Imported late: this process must be tied to its parent before anything takes time.
    from jobs.settings import get_settings
    from worker.attempt import carry_out
    from worker.readiness import get_ready

    # With the job there already, the attempt finds out what makes it impossible before it loads torch.
    base = get_ready(get_settings(), arguments[1]) if arguments[1:] and specs.empty() else None
    status = carry_out(specs.get(), get_settings(), base)
    logging.shutdown()
    os._exit(status)  # all is written down; taking torch apart in order would keep the next job waiting for a second


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _listen(specs: SimpleQueue[AttemptSpec]) -> None:
    """Passes the spec on, then waits for the supervisor's death."""
    pipe = sys.stdin.fileno()  # read below Python's buffer, whose lock a blocked thread would hold at exit
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(pipe, 4096) or os._exit(1)
    specs.put(AttemptSpec.of_line(line))
    os.read(pipe, 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
