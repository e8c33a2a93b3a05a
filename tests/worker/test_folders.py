"""Work folders and checkpoint folders: private, kept while in use, deleted afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
import torch

from jobs import claims
from jobs.database import SessionFactory
from jobs.states import State
from jobs.tables import Artifact
from tests.waiting import eventually
from tests.worker.harness import Ledger
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.training.checkpoints import Checkpoint, Checkpoints
from worker.attempt.preload import preload
from worker.attempt.run import run_attempt
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import checkpoint_folder, delete_checkpoint, delete_ended_checkpoints
from worker.work_folder import delete_abandoned, work_folder

_HOLDER = """
import sys
from worker.work_folder import work_folder
with work_folder() as folder:
    (folder / "half-written").write_text("adapter")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_work_folder_is_private_and_deleted_even_if_its_worker_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = [sys.executable, "-c", _HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        folder = Path(holder.stdout.readline().strip())
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.parent.stat().st_mode & 0o077 == 0
        delete_abandoned()
        assert (folder / "half-written").exists()
        holder.kill()
    delete_abandoned()
    assert not folder.parent.exists()
    with work_folder() as own:
        assert own.is_dir()
    eventually(lambda: not own.parent.exists())


def test_a_checkpoint_is_deleted_once_its_job_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert delete_ended_checkpoints(ledger.settings, ledger.sessions) == []
    waiting, cancelled = ledger.submit(wake=False), ledger.submit(wake=False)
    for job_id in (waiting, cancelled):
        checkpoint_folder(ledger.settings, job_id).mkdir()
    os.utime(checkpoint_folder(ledger.settings, waiting), (0, 0))
    ledger.cancel(cancelled)
    assert delete_ended_checkpoints(ledger.settings, ledger.sessions) == [cancelled]
    assert [job_id for job_id in (waiting, cancelled) if checkpoint_folder(ledger.settings, job_id).exists()] == [
        waiting
    ]
    delete_checkpoint(ledger.settings, waiting)
    delete_checkpoint(ledger.settings, waiting)
    assert not checkpoint_folder(ledger.settings, waiting).exists()


def test_a_checkpoint_of_an_unknown_job_is_deleted_once_abandoned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
):
    """Staging and production may share a machine and an account. Neither knows the other's jobs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recent, abandoned, resumed = uuid4(), uuid4(), uuid4()
    runs = {
        job_id: Checkpoints(checkpoint_folder(ledger.settings, job_id), {}, 0)
        for job_id in (recent, abandoned, resumed)
    }
    checkpoint = Checkpoint(1, 4, {}, {"0.master": torch.zeros(4)})
    for job_id, run in runs.items():
        run.save(checkpoint)
        if job_id != recent:
            os.utime(checkpoint_folder(ledger.settings, job_id), (0, 0))
    runs[resumed].save(checkpoint)
    assert delete_ended_checkpoints(ledger.settings, ledger.sessions) == [abandoned]
    assert [job_id for job_id in runs if checkpoint_folder(ledger.settings, job_id).exists()] == [recent, resumed]


def test_checkpoints_lie_in_the_folder_of_the_settings_which_no_other_account_may_enter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "lost"))
    settings = ledger.settings.model_copy(update={"checkpoint_dir": tmp_path / "kept"})
    cancelled = ledger.submit(wake=False)
    Checkpoints(checkpoint_folder(settings, cancelled), {}, 0).save(Checkpoint(1, 4, {}, {"0.master": torch.zeros(4)}))
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"checkpoint-{cancelled}"]
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    ledger.cancel(cancelled)
    assert delete_ended_checkpoints(settings, ledger.sessions) == [cancelled]
    assert list((tmp_path / "kept").iterdir()) == []
    (tmp_path / "kept").chmod(0o755)
    with pytest.raises(PermissionError):
        checkpoint_folder(settings, cancelled)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_an_attempt_starts_over_when_its_checkpoint_is_unusable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger, session_factory: SessionFactory, warm: bool
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # An attempt never closes its connections, because its process ends with it.
    monkeypatch.setattr("worker.attempt.run.session_factory", lambda _engine: session_factory)
    job_id = ledger.submit(wake=False)
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "here", 60)
    checkpoint_folder(ledger.settings, job_id).mkdir(mode=0o700)
    (checkpoint_folder(ledger.settings, job_id) / "checkpoint.safetensors").write_bytes(b"half of another run's")

    models: list[weakref.ref[torch.nn.Module]] = []
    alive_at_each_load: list[int] = []

    def load(*given: Any) -> BaseModel:
        alive_at_each_load.append(sum(model() is not None for model in models))
        base = load_base(*given)
        models.append(weakref.ref(base.model))
        return base

    monkeypatch.setattr("vgid_core.run.load_base", load)
    preloaded = preload(ledger.settings, "tiny") if warm else None  # held to the end, as the attempt's process does
    with work_folder() as folder:
        assert run_attempt(AttemptSpec(job_id, claim.token, folder), ledger.settings, preloaded) == 0

    assert alive_at_each_load == [0, 0], "a device may have room for one base only"
    assert (preloaded is not None) == warm
    assert ledger.job(job_id).state is State.succeeded
    with ledger.sessions() as s:
        assert s.get(Artifact, job_id).manifest["resumed_after"] == 0
    assert not checkpoint_folder(ledger.settings, job_id).exists()


def test_a_half_made_work_folder_is_deleted_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder() as own:
        half_made = own.parent.with_name("attempt-killed")
        half_made.mkdir()
        delete_abandoned()
        assert not half_made.exists()
        assert own.is_dir()


def test_cleaning_up_spares_folders_that_are_being_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = Event()

    def clean() -> None:
        while not done.is_set():
            delete_abandoned()

    with ThreadPoolExecutor(2) as pool:
        cleaners = [pool.submit(clean) for _ in range(2)]
        try:
            for _ in range(300):
                with work_folder() as own:
                    assert own.is_dir()
        finally:
            done.set()
        for cleaner in cleaners:
            cleaner.result()
