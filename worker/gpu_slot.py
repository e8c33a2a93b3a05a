"""One accelerator: the process that runs a job there, and a spare one that has got ready for the next job.

Every job has a process of its own, which has seen no other job's data and dies with it. Only what doesn't depend on
the job is done ahead: a spare has imported the libraries and read the last job's model into host memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Executor

from worker.attempt_spec import AttemptSpec


class GpuSlot:
    """Starts the processes of one accelerator, `gpu`; with None they see whatever this process sees.

    `spawner` has one thread. Linux kills a process with the thread that started it, so that thread must live as long as
    the worker. Not thread-safe: whoever holds the slot uses it alone.
    """

    def __init__(self, gpu: str | None, spawner: Executor) -> None:
        self._environment = dict(os.environ) if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        self._spawner = spawner
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_model = ""

    def prepare(self, model: str) -> None:
        """Starts a spare that gets ready for `model`, unless one for it is there."""
        if self._spare is not None and self._spare_model == model and self._spare.poll() is None:
            return
        self.close()
        self._spare, self._spare_model = self._start(model), model

    def send_spare(self, spec: AttemptSpec, model: str) -> subprocess.Popen[bytes] | None:
        """The spare, sent the spec. None if there is none for this model; one for another model is ended."""
        spare = self._spare
        if spare is None or self._spare_model != model or not _sent(spare, spec):
            self.close()
            return None
        self._spare = None
        return spare

    def send_new(self, spec: AttemptSpec) -> subprocess.Popen[bytes]:
        """A new process that was sent the spec."""
        process = self._start()
        _sent(process, spec)
        return process

    def close(self) -> None:
        """Ends the spare, at once: it holds nothing that is worth a grace."""
        if self._spare is not None:
            end_process(self._spare, grace_seconds=0)
            self._spare = None

    def _start(self, *model: str) -> subprocess.Popen[bytes]:
        """A process whose standard input stays open until this process ends, however that happens."""
        command = [sys.executable, "-m", "worker.process", str(os.getpid()), *model]

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell
                command, stdin=subprocess.PIPE, bufsize=0, env=self._environment, start_new_session=True
            )

        return self._spawner.submit(spawn).result()


def _sent(process: subprocess.Popen[bytes], spec: AttemptSpec) -> bool:
    """Sends the spec; False when the process is gone."""
    assert process.stdin is not None
    try:
        process.stdin.write(spec.line())
    except BrokenPipeError:
        return False
    return True


def end_process(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Terminates the process if it runs, kills it after the grace, and frees the pipe."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()
