"""Jobs in a real worker, while processes, Redis and the worker itself are killed."""

from __future__ import annotations

import json
import signal
import zipfile
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import text

from jobs import repository
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.states import Phase, State
from jobs.tables import Artifact, Client
from jobs.transitions import RUN_TOO_LONG
from local.redis import EmbeddedRedis
from tests.processes import has_ended
from tests.waiting import eventually
from tests.worker.harness import MODELS, SECRET_ANSWER, Ledger

pytestmark = pytest.mark.slow

LONG = 600  # steps: seconds of training, so that a test can kill it midway


def test_a_job_runs_to_its_artifact_and_leaves_nothing_else(ledger: Ledger, start_worker, work_root: Path):
    worker = start_worker()
    job_id = ledger.submit()

    job = ledger.until(job_id, State.succeeded)

    assert ledger.history(job_id) == [State.queued, State.running, *Phase, State.succeeded]
    assert (worker.starts(), worker.spares()) == (["cold"], [])
    assert (job.attempt, job.progress) == (1, 1.0)
    assert job.wrapped_data_key is None
    eventually(lambda: ledger.job(job_id).inputs_deleted_at)
    assert not any((ledger.settings.blob_dir / "inputs").iterdir())
    with ledger.sessions() as s:
        artifact = s.get(Artifact, job_id)
        splits = {(metric.stage, metric.split) for metric in repository.metrics_of(s, job_id)}
    sets = ("forget", "retain", "registered_retain", "utility")
    assert splits == {(stage, split) for stage in ("before", "after") for split in sets}
    with zipfile.ZipFile(ledger.blobs.path_of_artifact(artifact.sha256)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [file["name"] for file in artifact.files] == sorted(names)
        signed = {"statement.intoto.jsonl", "model.sig"}
        assert {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"} == set(names) - signed
        assert json.loads(archive.read("manifest.json")) == artifact.manifest
    eventually(lambda: not list(work_root.glob("vgid-work-*/attempt-*")))
    assert list(work_root.glob("vgid-work-*/alive"))
    assert SECRET_ANSWER not in worker.log.read_text()


def test_a_killed_attempt_resumes_from_its_checkpoint(ledger: Ledger, start_worker, work_root: Path, tmp_path: Path):
    kept = tmp_path / "checkpoints"
    worker = start_worker(checkpoint_seconds=0, checkpoint_dir=kept)
    ledger.until_training(job_id := ledger.submit(LONG))
    eventually(lambda: list(kept.glob("checkpoint-*/checkpoint.safetensors")))
    assert not list(work_root.glob("vgid-work-*/checkpoint-*"))

    worker.attempt().kill()

    assert ledger.until(job_id, State.succeeded).attempt == 2
    assert ledger.history(job_id).count(State.queued) == 2
    with ledger.sessions() as s:
        manifest = s.get(Artifact, job_id).manifest
    assert 0 < manifest["resumed_after"] <= manifest["steps"] == LONG
    for folder, leftover in ((work_root, "vgid-work-*/attempt-*"), (kept, "checkpoint-*")):
        eventually(lambda folder=folder, leftover=leftover: not list(folder.glob(leftover)))


def test_a_killed_worker_ends_its_attempt_and_another_worker_takes_the_job(
    ledger: Ledger, start_worker, work_root: Path
):
    worker = start_worker()
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()

    worker.kill()

    eventually(lambda: has_ended(attempt), seconds=5)
    start_worker()
    assert ledger.until(job_id, State.succeeded).attempt == 2
    eventually(lambda: not list(work_root.glob("vgid-work-*/attempt-*")))


def test_a_cancelled_job_leaves_no_checkpoint_though_its_worker_is_gone(ledger: Ledger, start_worker, work_root: Path):
    worker = start_worker(checkpoint_seconds=0)
    ledger.until_training(job_id := ledger.submit(LONG))
    (folder,) = eventually(lambda: list(work_root.glob("vgid-work-*/checkpoint-*")))
    assert folder.stat().st_mode & 0o077 == 0

    worker.kill()
    ledger.cancel(job_id)
    start_worker()

    ledger.until(job_id, State.cancelled)
    eventually(lambda: not folder.exists())


def test_jobs_outlive_a_queue_that_is_wiped(ledger: Ledger, start_worker):
    job_id = ledger.submit()
    with redis.Redis.from_url(ledger.settings.redis_url) as client:
        client.flushall()
    start_worker()

    assert ledger.until(job_id, State.succeeded).attempt == 1


def test_jobs_outlive_a_redis_that_dies_under_a_running_worker(
    ledger: Ledger, start_worker, redis_server: EmbeddedRedis
):
    worker = start_worker()
    ledger.until_training(running := ledger.submit(LONG))

    redis_server.process.kill()
    redis_server.process.wait()
    lost = ledger.submit(wake=False)  # as the API does when it can't reach the queue
    redis_server.start()

    assert ledger.until(running, State.succeeded).attempt == 1
    ledger.until(lost, State.succeeded)
    assert worker.process.poll() is None


def test_a_running_job_can_be_cancelled_and_only_its_process_loads_torch(ledger: Ledger, start_worker, work_root: Path):
    worker = start_worker()
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()
    assert loads_torch(attempt)
    assert not loads_torch(psutil.Process(worker.process.pid))

    ledger.cancel(job_id)

    job = ledger.until(job_id, State.cancelled, seconds=10)
    assert has_ended(attempt)
    assert job.wrapped_data_key is None
    eventually(lambda: ledger.job(job_id).inputs_deleted_at)
    eventually(lambda: not list(work_root.glob("vgid-work-*/attempt-*")))


def test_a_stopped_worker_requeues_its_job_without_counting_the_attempt(ledger: Ledger, start_worker):
    worker = start_worker()
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()

    assert worker.terminate() == 0

    job = ledger.job(job_id)
    assert (job.state, job.attempt) == (State.queued, 0)
    assert has_ended(attempt)
    start_worker()
    assert ledger.until(job_id, State.succeeded).attempt == 1


def test_a_job_whose_every_attempt_dies_ends_as_attempts_exhausted(ledger: Ledger, start_worker):
    worker = start_worker(max_attempts=2)
    job_id = ledger.submit(LONG)

    for number in (1, 2):
        ledger.until_training(job_id, attempt=number)
        worker.attempt().kill()

    job = ledger.until(job_id, State.failed)
    assert (job.error_type, job.attempt) == ("attempts-exhausted", 2)
    eventually(lambda: ledger.job(job_id).inputs_deleted_at)


def test_an_attempt_that_hangs_is_killed_and_tried_again(ledger: Ledger, start_worker):
    worker = start_worker(stall_seconds=6)
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()

    attempt.send_signal(signal.SIGSTOP)

    ledger.until_training(job_id, attempt=2)
    assert has_ended(attempt)
    ledger.cancel(job_id)


def test_loading_has_a_limit_of_its_own(ledger: Ledger, start_worker):
    start_worker(loading_seconds=0.5, max_attempts=1)  # torch alone takes longer

    job = ledger.until(ledger.submit(LONG), State.failed)

    assert (job.error_type, job.attempt) == ("attempts-exhausted", 1)
    assert "stalled" in job.error_detail


def test_a_run_that_takes_longer_than_its_client_may_ends_its_job(ledger: Ledger, start_worker):
    with ledger.sessions.begin() as s:
        access.set_limits(s, s.get_one(Client, ledger.client_id), ClientLimits(run_seconds=3600))
    worker = start_worker()
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()

    with ledger.sessions.begin() as s:
        s.execute(text("UPDATE jobs SET leads_since = leads_since - interval '1 hour'"))

    job = ledger.until(job_id, State.failed)
    assert (job.error_type, job.attempt) == (RUN_TOO_LONG, 1)
    assert has_ended(attempt)
    eventually(lambda: ledger.job(job_id).inputs_deleted_at)


def test_an_attempt_whose_job_was_taken_away_stops(ledger: Ledger, start_worker):
    worker = start_worker()
    ledger.until_training(job_id := ledger.submit(LONG))
    attempt = worker.attempt()
    worker.process.send_signal(signal.SIGSTOP)  # as if its machine froze for longer than its lease

    other = start_worker()
    ledger.until_training(job_id, attempt=2)
    worker.process.send_signal(signal.SIGCONT)

    eventually(lambda: has_ended(attempt))
    assert ledger.until(job_id, State.succeeded).attempt == 2
    assert other.process.poll() is None


def test_a_model_that_cant_be_loaded_fails_the_job_and_quotes_no_data(ledger: Ledger, start_worker, tmp_path: Path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    ledger.settings.catalog.write_text(f"[models.tiny]\npath = '{broken}'\ntitle = 'Broken'\n")
    worker = start_worker()

    job = ledger.until(ledger.submit(), State.failed)

    assert (job.error_type, job.attempt) == ("model-not-loadable", 1)
    assert "Traceback" not in job.error_detail
    assert str(broken) not in job.error_detail
    assert SECRET_ANSWER not in worker.log.read_text()


def test_uploads_that_are_gone_fail_the_job_at_once(ledger: Ledger, start_worker):
    job_id = ledger.submit(wake=False)
    ledger.blobs.delete_inputs(job_id)
    start_worker()

    assert ledger.until(job_id, State.failed).error_type == "inputs-missing"


def test_a_busy_worker_leaves_the_next_job_to_an_idle_one(ledger: Ledger, start_worker):
    first = start_worker(reap_seconds=1000)
    ledger.until_training(running := ledger.submit(2000))
    waiting = ledger.submit(model=MODELS[1])
    assert ledger.queue.depth() == 1
    start_worker(reap_seconds=1000)

    ledger.until(waiting, State.succeeded)

    assert ledger.job(running).state is State.running
    assert len(first.attempts()) == 1
    ledger.cancel(running)


def test_a_woken_worker_claims_until_nothing_is_left(ledger: Ledger, start_worker, work_root: Path):
    start_worker(reap_seconds=1000)
    eventually(lambda: list(work_root.glob("vgid-work-*/alive")))  # its reaper has made the only round of this test
    jobs = [ledger.submit(wake=False) for _ in range(2)]
    assert [ledger.job(job_id).state for job_id in jobs] == [State.queued, State.queued]

    ledger.queue.wake()

    for job_id in jobs:
        ledger.until(job_id, State.succeeded)
    first, second = (ledger.job(job_id).started_at for job_id in jobs)
    assert first < second


def test_surplus_wake_ups_find_nothing_and_harm_nothing(ledger: Ledger, start_worker):
    worker = start_worker()
    for _ in range(3):
        ledger.queue.wake()
        eventually(lambda: ledger.queue.depth() == 0)

    assert ledger.until(ledger.submit(), State.succeeded).attempt == 1
    assert len(worker.starts()) == 1


def test_one_wake_up_starts_every_accelerator(
    ledger: Ledger, start_worker, work_root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    worker = start_worker(reap_seconds=1000)
    eventually(lambda: list(work_root.glob("vgid-work-*/alive")))
    jobs = [ledger.submit(2000, wake=False, model=model) for model in MODELS]

    ledger.queue.wake()

    attempts = eventually(lambda: found if len(found := worker.attempts()) == 2 else None)

    assert {attempt.environ()["CUDA_VISIBLE_DEVICES"] for attempt in attempts} == {"4", "7"}
    for job_id in jobs:
        ledger.cancel(job_id)


def test_a_fault_of_the_surroundings_costs_the_job_no_attempt_and_ends_by_itself(ledger: Ledger, start_worker):
    utility = ledger.settings.catalog.parent / "registered" / "utility.jsonl"
    kept = utility.read_bytes()
    utility.unlink()
    utility.symlink_to("/proc/self/mem")  # a file that every system has, and that nobody can read: EIO
    worker = start_worker(max_attempts=1)
    job_id = ledger.submit()

    eventually(lambda: ledger.queue.pauses() == ["storage-error"], seconds=60)
    assert (ledger.job(job_id).attempt, ledger.job(job_id).state) == (0, State.queued)
    utility.unlink()
    utility.write_bytes(kept)

    assert ledger.until(job_id, State.succeeded).attempt == 1
    eventually(lambda: ledger.queue.pauses() == [])
    assert "storage-error (EIO)" in worker.log.read_text()


def loads_torch(process: psutil.Process) -> bool:
    return any("libtorch" in mapping.path for mapping in process.memory_maps())
