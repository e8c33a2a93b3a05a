"""The reaper repairs what crashes leave behind, once, however many reapers run."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from jobs import claims, endings, repository
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.lines.releases import ReleaseZip
from jobs.queueing.queue import QUEUE_NAME, JobQueue
from jobs.reaping import ReapReport, reap, sweep_artifacts
from jobs.settings import Settings
from jobs.states import State
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.tables import Client
from tests.evidence import FORGOTTEN
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact


class Round:
    """Does one round of the reaper with this test's services."""

    def __init__(self, ledger: Ledger, blobs: FileBlobStore, settings: Settings, queue: JobQueue) -> None:
        self.ledger, self.blobs, self.settings, self.queue = ledger, blobs, settings, queue

    def __call__(self) -> ReapReport:
        return reap(self.ledger.sessions, self.blobs, self.settings, self.queue)


@pytest.fixture
def reaper(ledger: Ledger, blobs: FileBlobStore, settings: Settings, queue: JobQueue) -> Round:
    return Round(ledger, blobs, settings, queue)


def lose(ledger: Ledger, job_id: UUID) -> None:
    with ledger.sessions.begin() as s:
        assert claims.claim(s, job_id, "worker", 30) is not None
    ledger.turn_back(job_id, "lease_expires_at", 31)


def test_a_round_without_work_changes_nothing(ledger: Ledger, reaper: Round) -> None:
    running = ledger.submit()
    with ledger.sessions.begin() as s:
        claims.claim(s, running, "worker", 30)
    assert reaper() == ReapReport([], [], [], [], [], [], [])
    assert ledger.job(running).state is State.running
    assert reaper.queue.depth() == 0


def test_an_expired_lease_puts_the_job_back_and_wakes_a_worker(ledger: Ledger, reaper: Round) -> None:
    job_id = ledger.submit()
    lose(ledger, job_id)
    assert reaper().requeued == [job_id]
    assert reaper.queue.depth() == 1
    assert ledger.history(job_id)[-1] == {"state": "queued", "attempt": 1, "reason": "lease_expired"}
    assert reaper().requeued == []


def test_the_last_lost_attempt_ends_the_job(ledger: Ledger, reaper: Round) -> None:
    job_id = ledger.submit()
    for _ in range(reaper.settings.max_attempts - 1):
        lose(ledger, job_id)
        assert reaper().requeued == [job_id]
    lose(ledger, job_id)
    assert reaper().attempts_exhausted == [job_id]
    job = ledger.job(job_id)
    assert (job.state, job.error_type, job.wrapped_data_key) == (State.failed, "attempts-exhausted", None)


def test_a_lost_job_is_cancelled_if_that_was_requested(ledger: Ledger, reaper: Round) -> None:
    job_id = ledger.submit()
    lose(ledger, job_id)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
    assert reaper().cancelled == [job_id]
    assert ledger.job(job_id).state is State.cancelled


def test_a_lost_wake_up_is_sent_again(ledger: Ledger, reaper: Round, redis_url: str) -> None:
    job_id = ledger.submit()
    reaper.queue.wake()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert reaper() == ReapReport([], [], [], [], [], [], [])
    assert reaper.queue.depth() == 1
    assert ledger.job(job_id).state is State.queued


def test_many_waiting_jobs_do_not_flood_the_queue(ledger: Ledger, reaper: Round) -> None:
    for _ in range(20):
        ledger.submit()
        reaper.queue.wake()
    for _ in range(10):
        reaper()
    assert reaper.queue.depth() == 1


def test_a_job_that_may_not_start_yet_wakes_nobody(ledger: Ledger, reaper: Round) -> None:
    with ledger.sessions.begin() as s:
        access.set_limits(s, s.get_one(Client, ledger.client_id), ClientLimits(running_jobs=1))
    waits_for(ledger, reaper, ledger.submit_apart(), ledger.submit_apart())


def test_a_job_behind_another_in_its_line_wakes_nobody(ledger: Ledger, reaper: Round) -> None:
    waits_for(ledger, reaper, ledger.submit(), ledger.submit())


def waits_for(ledger: Ledger, reaper: Round, running: UUID, waiting: UUID) -> None:
    """Asserts that nobody is woken for the second job until the first one ends."""
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, running, "worker", 30)
    assert claim is not None
    reaper()
    assert reaper.queue.depth() == 0
    with ledger.sessions.begin() as s:
        endings.fail(s, claim.token, "diverged", "The loss grew.")
    reaper()
    assert reaper.queue.depth() == 1
    assert ledger.job(waiting).state is State.queued


def test_every_job_is_claimed_though_every_second_wake_up_is_lost(
    ledger: Ledger, reaper: Round, redis_url: str
) -> None:
    jobs = [ledger.submit() for _ in range(6)]
    with redis.Redis.from_url(redis_url) as client:
        for number in range(2 * len(jobs)):
            reaper()
            assert client.rpop(QUEUE_NAME) is not None
            if number % 2:
                _work(ledger)
        reaper()
        assert client.rpop(QUEUE_NAME) is None
    assert {ledger.job(job_id).state for job_id in jobs} == {State.failed}


def _work(ledger: Ledger) -> None:
    """Claims a job and ends it, as a worker that is woken."""
    with ledger.sessions.begin() as s:
        claim = claims.claim_next(s, "worker", 30)
        assert claim is not None
        endings.fail(s, claim.token, "diverged", "The loss grew.")


def test_leases_expire_without_the_queue(ledger: Ledger, blobs: FileBlobStore, settings: Settings) -> None:
    job_id = ledger.submit()
    lose(ledger, job_id)
    queue = JobQueue("redis://127.0.0.1:1/0")
    report = reap(ledger.sessions, blobs, settings, queue)
    queue.close()
    assert report.requeued == [job_id]


def test_uploads_of_ended_jobs_are_deleted(ledger: Ledger, reaper: Round, blobs: FileBlobStore) -> None:
    ended, waiting = ledger.submit(), ledger.submit()
    for job_id in (ended, waiting):
        blobs.put_inputs(job_id, b"sealed")
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, ended)
    assert reaper().inputs_deleted == [ended]
    assert ledger.job(ended).inputs_deleted_at is not None
    with pytest.raises(BlobMissing):
        blobs.read_inputs(ended)
    assert blobs.read_inputs(waiting) == b"sealed"
    assert reaper().inputs_deleted == []


def test_uploads_without_a_job_are_deleted_after_an_hour(
    ledger: Ledger, reaper: Round, blobs: FileBlobStore, tmp_path: Path
) -> None:
    waiting, crashed, arriving = ledger.submit(), uuid4(), uuid4()
    for job_id in (waiting, crashed, arriving):
        blobs.put_inputs(job_id, b"sealed")
    for job_id in (waiting, crashed):
        os.utime(tmp_path / "blobs" / "inputs" / str(job_id) / "request.bin", (0, 0))
    assert reaper().orphans_deleted == [crashed]
    assert blobs.read_inputs(waiting) == blobs.read_inputs(arriving) == b"sealed"


def test_undeletable_uploads_are_reported_and_dont_keep_the_others(
    ledger: Ledger, reaper: Round, blobs: FileBlobStore, tmp_path: Path
) -> None:
    inputs = tmp_path / "blobs" / "inputs"
    stuck, ended, stuck_orphan, orphan = ledger.submit(), ledger.submit(), uuid4(), uuid4()
    (inputs / str(stuck)).write_bytes(b"a file where a folder should be can't be deleted as one")
    blobs.put_inputs(ended, b"sealed")
    for job_id in (stuck, ended):
        with ledger.sessions.begin() as s:
            repository.request_cancel(s, ledger.client_id, job_id)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "request.bin").touch()
    (inputs / str(stuck_orphan)).symlink_to(tmp_path / "elsewhere")
    blobs.put_inputs(orphan, b"sealed")
    for job_id in (stuck_orphan, orphan):
        os.utime(inputs / str(job_id) / "request.bin", (0, 0))

    report = reaper()

    assert (report.inputs_deleted, report.orphans_deleted) == ([ended], [orphan])
    assert report.undeletable == [stuck, stuck_orphan]
    assert ledger.job(stuck).inputs_deleted_at is None


def store(blobs: FileBlobStore, path: Path, content: bytes, *, old: bool) -> str:
    path.write_bytes(content)
    sha256, _ = blobs.put_artifact(path)
    if old:
        os.utime(blobs.path_of_artifact(sha256), (0, 0))
    return sha256


def test_artifacts_that_no_job_and_no_release_names_are_deleted_after_an_hour(
    ledger: Ledger, blobs: FileBlobStore, tmp_path: Path
) -> None:
    source = tmp_path / "artifact.zip"
    named, handed_out, orphan = (
        store(blobs, source, content, old=True) for content in (b"named", b"of the release", b"orphan")
    )
    fresh = store(blobs, source, b"fresh", old=False)
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        made = new_artifact(s, job_id, FORGOTTEN, sha256=named, archive=ReleaseZip(handed_out, 14))
        endings.finish(s, job_id, claim.token, made)

    assert sweep_artifacts(ledger.sessions, blobs) == [orphan]

    for sha256 in (named, handed_out, fresh):
        assert blobs.path_of_artifact(sha256).is_file()
    with pytest.raises(BlobMissing):
        blobs.path_of_artifact(orphan)
    assert sweep_artifacts(ledger.sessions, blobs) == []


def test_simultaneous_reapers_share_the_work(ledger: Ledger, reaper: Round) -> None:
    lost = [ledger.submit_apart() for _ in range(6)]
    for job_id in lost:
        lose(ledger, job_id)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: reaper(), range(4)))
    requeued = [job_id for report in reports for job_id in report.requeued]
    assert sorted(requeued) == sorted(lost)
    assert reaper.queue.depth() >= 1
    for job_id in lost:
        assert len(ledger.history(job_id)) == 3
