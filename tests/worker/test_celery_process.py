"""The parts of the Celery process, without a running worker."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from kombu.asynchronous import get_event_loop, set_event_loop

from jobs.database import SessionFactory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.storage.blobs import FileBlobStore
from tests.conftest import SECRET_KEY
from tests.waiting import eventually
from worker.gpu_slot import visible_gpus
from worker.housekeeping import Housekeeper
from worker.pool import WakingPool
from worker.supervisor import WorkerContext
from worker.work_folder import work_root


def test_gpus_are_those_of_cuda_visible_devices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert visible_gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_gpus_are_counted_with_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A'\necho '  MIG 1g.10gb Device 0: a'\necho 'GPU 1: B'\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus() == ["0", "1"]


def test_the_reaper_goes_on_when_it_cant_mark_itself_alive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, session_factory: SessionFactory
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = work_root()
    root.chmod(0o755)  # the worker refuses a folder that isn't private
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
    """Collects what the logger logs within the block."""
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


def test_the_celery_app_loads_no_torch(settings: Settings):
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
            code = f"from worker.work_folder import work_root; {mark}; os.utime(work_root() / 'alive', (t, t))"
            ago = {"AGO": str(marked_seconds_ago)}
            subprocess.run([sys.executable, "-c", code], env=environment | ago, check=True, timeout=60)
        done = subprocess.run([sys.executable, "-m", "worker.alive"], env=environment, timeout=60, check=False)
        return done.returncode == 0

    assert not healthy(marked_seconds_ago=None)
    assert healthy(marked_seconds_ago=1)
    assert not healthy(marked_seconds_ago=3600)
