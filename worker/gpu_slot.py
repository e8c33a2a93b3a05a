"""The slots of this worker's accelerators. Each slot starts the processes of one accelerator.

Every job has a process of its own, which has seen no other job's data and dies with its job. A spare process does
ahead what doesn't depend on the job: it imports the libraries and reads the last job's model into host memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import Executor

from jobs.surroundings import Sign
from worker.attempt_spec import AttemptSpec


class GpuSlot:
    """Starts attempt processes on one accelerator, `gpu`. With None they see whatever this process sees.

    `spawner` has one thread. Linux kills a process with the thread that started it, so that thread must live as long
    as the worker. A slot isn't thread-safe: whoever holds it uses it alone.
    """

    def __init__(self, gpu: str | None, spawner: Executor) -> None:
        self._environment = dict(os.environ) if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        self._spawner = spawner
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_model = ""
        self.fault: Sign | None = None  # what the surroundings of the last attempt lacked

    def start_spare(self, model: str) -> None:
        """Starts a spare process that preloads `model`. Does nothing if one for this model runs already."""
        if self._spare is not None and self._spare_model == model and self._spare.poll() is None:
            return
        self.close()
        self._spare, self._spare_model = self._spawn(model), model

    def use_spare(self, spec: AttemptSpec, model: str) -> subprocess.Popen[bytes] | None:
        """Sends the spec to the spare process and returns it, or None if no spare runs for `model`.

        A spare for another model is ended.
        """
        spare = self._spare
        if spare is None or self._spare_model != model or not _send(spare, spec):
            self.close()
            return None
        self._spare = None
        return spare

    def start_new(self, spec: AttemptSpec) -> subprocess.Popen[bytes]:
        """Starts a new process, sends it the spec, and returns it."""
        process = self._spawn()
        _send(process, spec)
        return process

    def close(self) -> None:
        """Ends the spare process at once. It holds nothing that needs an orderly end."""
        if self._spare is not None:
            end_process(self._spare, grace_seconds=0)
            self._spare = None

    def _spawn(self, *model: str) -> subprocess.Popen[bytes]:
        """Starts a process whose standard input stays open until this process ends, however it ends."""
        command = [sys.executable, "-m", "worker.attempt.process", str(os.getpid()), *model]

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell
                command, stdin=subprocess.PIPE, bufsize=0, env=self._environment, start_new_session=True
            )

        return self._spawner.submit(spawn).result()


def visible_gpus() -> list[str]:
    """The accelerators that this worker may use: those in CUDA_VISIBLE_DEVICES, else all NVIDIA GPUs by index.

    It asks nvidia-smi, because this process must not load a driver.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listing = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    if listing.returncode != 0:
        return []
    return [
        str(index) for index, _ in enumerate(line for line in listing.stdout.splitlines() if line.startswith("GPU"))
    ]


def end_process(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Terminates the process if it runs, kills it after the grace period, and closes the pipe."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _send(process: subprocess.Popen[bytes], spec: AttemptSpec) -> bool:
    """Writes the spec to the process's standard input. False when the process has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(spec.to_line())
    except BrokenPipeError:
        return False
    return True
