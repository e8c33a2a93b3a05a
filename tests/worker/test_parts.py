"""The worker's small parts, without a worker."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import weakref
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
import torch
from kombu.asynchronous import get_event_loop, set_event_loop

from jobs import claims
from jobs.database import SessionFactory
from jobs.queue import JobQueue
from jobs.settings import Settings
from jobs.states import State
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Artifact
from tests.conftest import SECRET_KEY
from tests.waiting import eventually
from tests.worker.bench import Ledger
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.training.checkpoints import Checkpoint, Checkpoints
from worker.attempt import carry_out
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import checkpoint_folder, delete_checkpoint, delete_ended_checkpoints
from worker.describe import describe
from worker.gpus import visible_gpus
from worker.housekeeping import Housekeeper
from worker.package import package
from worker.pool import WakingPool
from worker.readiness import get_ready
from worker.supervise import WorkerContext
from worker.work_folder import delete_abandoned, work_folder, work_root


def test_a_package_depends_on_names_and_bytes_alone(tmp_path: Path):
    archives = []
    for number, names in enumerate((["b.bin", "a.json"], ["a.json", "b.bin"])):
        folder = tmp_path / f"folder-{number}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(name.encode() * 1000)
            os.utime(folder / name, (number, number))
        listing = package(folder, tmp_path / f"{number}.zip")
        archives.append((tmp_path / f"{number}.zip").read_bytes())
        assert listing == [
            {"name": name, "sha256": hashlib.sha256(name.encode() * 1000).hexdigest(), "size": 1000 * len(name)}
            for name in ("a.json", "b.bin")
        ]
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert [entry.compress_type for entry in archive.infolist()] == [zipfile.ZIP_STORED] * 2
        assert archive.testzip() is None


def test_a_described_error_names_kinds_and_places_but_nothing_that_was_said(tmp_path: Path):
    (tmp_path / "Ada Quill").mkdir()
    try:
        try:
            package(tmp_path / "nowhere", tmp_path / "Ada Quill")
        except OSError as error:
            raise ValueError("Ada Quill was born in Fernmoor") from error
    except ValueError as error:
        text = describe(error)

    assert text.startswith("builtins.ValueError from builtins.")
    assert "Ada" not in text
    assert "Fernmoor" not in text


def test_a_described_error_names_the_lines_of_our_own_code(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        package(tmp_path / "nowhere", tmp_path / "target.zip")
    assert "worker/package.py:" in describe(caught.value)
    assert "in package" in describe(caught.value)
    assert str(tmp_path) not in describe(caught.value)


def test_gpus_are_those_that_the_environment_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert visible_gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_gpus_are_counted_by_the_driver_s_own_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A'\necho '  MIG 1g.10gb Device 0: a'\necho 'GPU 1: B'\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus() == ["0", "1"]


_HOLDER = """
import sys
from worker.work_folder import work_folder
with work_folder() as folder:
    (folder / "half-written").write_text("adapter")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_work_folder_is_private_and_goes_even_if_its_worker_was_killed(
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


def test_a_checkpoint_goes_when_its_job_has_ended_and_no_sooner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert delete_ended_checkpoints(ledger.sessions) == []
    waiting, cancelled = ledger.file(publish=False), ledger.file(publish=False)
    for job_id in (waiting, cancelled):
        checkpoint_folder(job_id).mkdir()
    os.utime(checkpoint_folder(waiting), (0, 0))
    ledger.cancel(cancelled)
    assert delete_ended_checkpoints(ledger.sessions) == [cancelled]
    assert [job_id for job_id in (waiting, cancelled) if checkpoint_folder(job_id).exists()] == [waiting]
    delete_checkpoint(waiting)
    delete_checkpoint(waiting)
    assert not checkpoint_folder(waiting).exists()


def test_a_checkpoint_of_a_job_that_nobody_here_knows_goes_once_no_run_writes_into_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
):
    """Staging and production may share a machine and an account; neither knows the other's jobs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    theirs, forsaken, begun_again = uuid4(), uuid4(), uuid4()
    runs = {job_id: Checkpoints(checkpoint_folder(job_id), {}, 0) for job_id in (theirs, forsaken, begun_again)}
    checkpoint = Checkpoint(1, 4, {}, [], {"0.master": torch.zeros(4)})
    for job_id, run in runs.items():
        run.save(checkpoint)
        if job_id != theirs:
            os.utime(checkpoint_folder(job_id), (0, 0))
    runs[begun_again].save(checkpoint)
    assert delete_ended_checkpoints(ledger.sessions) == [forsaken]
    assert [job_id for job_id in runs if checkpoint_folder(job_id).exists()] == [theirs, begun_again]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_an_attempt_that_cant_use_what_it_finds_begins_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger, session_factory: SessionFactory, warm: bool
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # an attempt ends with its process, and leaves its connections to that
    monkeypatch.setattr("worker.attempt.session_factory", lambda _engine: session_factory)
    job_id = ledger.file(publish=False)
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "here", 60)
    checkpoint_folder(job_id).mkdir(mode=0o700)
    (checkpoint_folder(job_id) / "checkpoint.safetensors").write_bytes(b"half of another run's")

    models: list[weakref.ref[torch.nn.Module]] = []
    alive_at_each_load: list[int] = []

    def load(*given: Any) -> BaseModel:
        alive_at_each_load.append(sum(model() is not None for model in models))
        base = load_base(*given)
        models.append(weakref.ref(base.model))
        return base

    monkeypatch.setattr("vgid_core.run.load_base", load)
    read_ahead = get_ready(ledger.settings, "tiny") if warm else None  # held to the end, as by the attempt's process
    with work_folder() as folder:
        assert carry_out(AttemptSpec(job_id, claim.token, folder), ledger.settings, read_ahead) == 0

    assert alive_at_each_load == [0, 0], "a device that has room for one base needn't have any for two"
    assert (read_ahead is not None) == warm
    assert ledger.job(job_id).state is State.succeeded
    with ledger.sessions() as s:
        assert s.get(Artifact, job_id).manifest["resumed_after"] == 0
    assert not checkpoint_folder(job_id).exists()


def test_a_work_folder_that_was_never_finished_goes_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder() as own:
        half_made = own.parent.with_name("attempt-killed")
        half_made.mkdir()
        delete_abandoned()
        assert not half_made.exists()
        assert own.is_dir()


def test_a_starting_worker_leaves_folders_that_are_being_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
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


def test_the_reaper_outlives_a_folder_that_it_cant_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, session_factory: SessionFactory
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = work_root()
    root.chmod(0o755)  # refused as not private
    blobs, queue = FileBlobStore(settings.blob_dir), JobQueue(settings.redis_url)
    orphans = [uuid4(), uuid4()]
    housekeeper = Housekeeper(
        WorkerContext(settings.model_copy(update={"reap_seconds": 0.05}), session_factory, blobs, queue)
    )
    with capture("worker.housekeeping") as lines:
        housekeeper.start()
        for orphan in orphans:
            blobs.put_inputs(orphan, b"sealed")
            os.utime(settings.blob_dir / "inputs" / str(orphan) / "request.bin", (0, 0))
            eventually(lambda orphan=orphan: f"reaper: job {orphan} orphans_deleted" in lines)
        assert any("PermissionError" in line for line in lines)
        root.chmod(0o700)
        eventually(lambda: (root / "alive").exists())
        housekeeper.stop()
    queue.close()


@contextmanager
def capture(logger: str) -> Iterator[list[str]]:
    """What the logger says meanwhile."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Collector()
    logging.getLogger(logger).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(logger).removeHandler(handler)


def test_the_worker_s_module_loads_no_torch(settings: Settings):
    names = ("database_url", "redis_url", "blob_dir", "catalog")
    environment = {f"VGID_{name.upper()}": str(getattr(settings, name)) for name in names}
    environment |= {"VGID_SECRET_KEY": SECRET_KEY, "VGID_ENVIRONMENT": "development"}
    script = "import sys, worker.celery_app; print(*(m for m in ('torch', 'transformers', 'peft') if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_end_of_a_task_wakes_the_loop_that_fetches_the_next():
    woken = Event()

    class Loop:
        def call_soon(self, callback: Callable[[], None]) -> None:
            callback()
            woken.set()

    before = get_event_loop()
    set_event_loop(Loop())
    try:
        pool = WakingPool(limit=1)
        running = Event()
        pool.apply_async(running.wait)
        assert not woken.is_set()
        running.set()
        eventually(woken.is_set)
        pool.executor.shutdown()
    finally:
        set_event_loop(before)


def test_a_worker_is_alive_for_as_long_as_its_reaper_makes_rounds(settings: Settings, tmp_path: Path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "VGID_DATABASE_URL": settings.database_url}
    environment |= {
        "VGID_REDIS_URL": settings.redis_url,
        "VGID_SECRET_KEY": SECRET_KEY,
        "VGID_ENVIRONMENT": "development",
    }
    environment |= {"VGID_BLOB_DIR": str(settings.blob_dir), "VGID_CATALOG": str(settings.catalog)}

    def healthy(*, marked_seconds_ago: float | None) -> bool:
        if marked_seconds_ago is not None:
            mark = "import os, time; from worker import alive; alive.mark(); t = time.time() - float(os.environ['AGO'])"
            code = f"{mark}; os.utime(alive._file(), (t, t))"
            ago = {"AGO": str(marked_seconds_ago)}
            subprocess.run([sys.executable, "-c", code], env=environment | ago, check=True, timeout=60)
        done = subprocess.run([sys.executable, "-m", "worker.alive"], env=environment, timeout=60, check=False)
        return done.returncode == 0

    assert not healthy(marked_seconds_ago=None)
    assert healthy(marked_seconds_ago=1)
    assert not healthy(marked_seconds_ago=3600)
