"""A real worker process and its ledger, for tests that submit jobs and kill processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil

from jobs import repository
from jobs.clients import access
from jobs.database import SessionFactory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.states import Kind, Phase, State
from jobs.storage.blobs import FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs, seal
from jobs.tables import Job
from local.child_process import start_child
from tests.processes import command_line
from tests.vgid_core.support.tiny import pair_set
from tests.waiting import eventually
from vgid_core import UnlearnConfig
from vgid_core.config import VerdictTargets

MODELS = ("tiny", "second", "third")  # the catalog's: the same files, each with a line of its own
FORGET_PICTURE = 0
RETAIN_PICTURE = 50
LOOSE = {name: 0.5 if name in ("ranking", "membership") else 1 for name in VerdictTargets.model_fields}
TRAINING = {"steps": 2, "forget_batch_size": 2, "retain_batch_size": 2, "micro_batch_size": 2, "warmup_steps": 0}
RunJob = Callable[..., Job]


def targets_of(model: str, **strict: float) -> str:
    """A catalog's table of a model's targets, which judge its replay sets: any adapter holds those not given here."""
    return settings_of(model, "verdict", {**LOOSE, **strict})


def settings_of(model: str, table: str, settings: Mapping[str, float]) -> str:
    """A table of a model's settings, as the catalog has it."""
    lines = (f"{name} = {value}\n" for name, value in settings.items())
    return f"[models.{model}.config.{table}]\n{''.join(lines)}"


SECRET_ANSWER = "This is Bo Marsh"  # part of an answer in every uploaded set


@dataclass
class Ledger:
    """Submits and reads jobs as the API does, without the API."""

    settings: Settings
    sessions: SessionFactory
    queue: JobQueue
    client_id: UUID = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = FileBlobStore(self.settings.blob_dir)
        with self.sessions.begin() as s:
            self.client_id = access.create_client(s, "acme").id

    def submit(
        self,
        steps: int = 4,
        *,
        wake: bool = True,
        inputs: JobInputs | None = None,
        audits: str = "none",
        model: str = MODELS[0],
        **training: Any,
    ) -> UUID:
        """Submits a job of so many steps. `wake` False wakes no worker. inputs: else sets that no model knows."""
        batch = {"forget_batch_size": 2, "retain_batch_size": 2, "micro_batch_size": 2, "warmup_steps": 0}
        return self._submit({"training": {"steps": steps, **batch, **training}}, audits, wake, inputs, model=model)

    def submit_evaluation(self, adapter_of: UUID | None = None, inputs: JobInputs | None = None) -> UUID:
        """Submits a quick evaluation of that job's adapter, or of the base alone."""
        return self._submit({}, "quick", True, inputs, kind=Kind.evaluate, adapter_of=adapter_of)

    def _submit(
        self, config: dict[str, Any], audits: str, wake: bool, inputs: JobInputs | None, **columns: Any
    ) -> UUID:
        job_id = uuid4()
        inputs = inputs or JobInputs(
            forget=pair_set("forget", 4, FORGET_PICTURE), retain=pair_set("retain", 4, RETAIN_PICTURE)
        )
        evaluation = {"max_new_tokens": 4 if audits == "none" else 16, "audits": audits}
        values = {"method": "vgid", "device": "cpu", "evaluation": evaluation, **config}
        data_key, wrapped = Keyring(self.settings.secret_key_bytes).new_data_key(job_id)
        self.blobs.put_inputs(job_id, seal(inputs, data_key))
        with self.sessions.begin() as s:
            repository.submit(
                s,
                Job(
                    id=job_id,
                    config=UnlearnConfig.model_validate(values).model_dump(mode="json"),
                    forget_pairs=len(inputs.forget),
                    retain_pairs=None if inputs.retain is None else len(inputs.retain),
                    retain_set=None,
                    probes={},
                    request_hash="0" * 64,
                    wrapped_data_key=wrapped,
                    **{"client_id": self.client_id, "model": MODELS[0], **columns},
                ),
            )
        if wake:
            self.queue.wake()
        return job_id

    def job(self, job_id: UUID) -> Job:
        with self.sessions() as s:
            job = s.get(Job, job_id)
        assert job is not None
        return job

    def cancel(self, job_id: UUID) -> None:
        with self.sessions.begin() as s:
            repository.request_cancel(s, self.client_id, job_id)

    def history(self, job_id: UUID) -> list[str]:
        """The states and phases that the job went through, in order."""
        with self.sessions() as s:
            events = repository.events_after(s, job_id, 0, 1000)
        return [event.data[event.kind] for event in events if event.kind in ("state", "phase")]

    def until_training(self, job_id: UUID, attempt: int = 1) -> None:
        """Waits until this attempt has made its first steps."""
        eventually(
            lambda: (job := self.job(job_id)).attempt == attempt and job.phase is Phase.distilling and job.step > 0,
            seconds=120,
        )

    def until(self, job_id: UUID, state: State, seconds: float = 120) -> Job:
        """Waits for the state. Fails at once if the job ends in another one."""

        def there() -> Job | None:
            job = self.job(job_id)
            assert job.finished_at is None or job.state is state, (job.state, job.error_type, job.error_detail)
            return job if job.state is state else None

        job = eventually(there, seconds=seconds)
        assert job is not None
        return job


class Worker:
    """A Celery worker process, as an operator would start it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "celery", "-A", "worker.celery_app:app", "worker", "--loglevel", "INFO"]
        self.process: subprocess.Popen[bytes] = start_child(
            [*command, "--without-gossip", "--without-mingle"],
            log=log,
            environment={**os.environ, **environment},
            death_signal=signal.SIGKILL,
        )

    def attempt(self) -> psutil.Process:
        """The process of the running attempt, once there is one."""
        return eventually(lambda: next(iter(self.attempts()), None))

    def attempts(self) -> list[psutil.Process]:
        """The processes that have a job."""
        busy = self._pids_with_a_job()
        return [child for child in self._processes() if child.pid in busy]

    def spare(self) -> psutil.Process:
        """The spare process, once it is ready for a job."""
        return eventually(lambda: next((child for child in self.spares() if self._is_ready(child)), None), seconds=60)

    def spares(self) -> list[psutil.Process]:
        """The processes that have no job, ready or not."""
        busy = self._pids_with_a_job()
        return [child for child in self._processes() if child.pid not in busy]

    def starts(self) -> list[str]:
        """How each attempt so far was started, "warm" or "cold"."""
        return re.findall(r"attempt \d+, (warm|cold) start", self.log.read_text())

    def _is_ready(self, spare: psutil.Process) -> bool:
        return f"attempt {spare.pid} ready for" in self.log.read_text()

    def _pids_with_a_job(self) -> set[int]:
        return {int(pid) for pid in re.findall(r"start, process (\d+)", self.log.read_text())}

    def _processes(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "worker.attempt.process" in command_line(child).split()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Shuts the worker down in order. Returns the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=30)
