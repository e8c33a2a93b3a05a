"""The reaper repairs what crashes leave behind, once, however many reapers run."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from jobs import claims, repository
from jobs.queue import JobQueue
from jobs.reaping import ReapReport, reap, sweep_artifacts
from jobs.settings import Settings
from jobs.states import State
from jobs.storage.blobs import BlobMissing, FileBlobStore
from tests.jobs.conftest import Ledger


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
    waiting, running = ledger.submit(), ledger.submit()
    with ledger.sessions.begin() as s:
        claims.claim(s, running, "worker", 30)
    assert reaper() == ReapReport([], [], [], [], [], [], [])
    assert (ledger.job(waiting).state, ledger.job(running).state) == (State.queued, State.running)
    assert reaper.queue.depth() == 0


def test_an_expired_lease_puts_the_job_back_and_publishes_it(ledger: Ledger, reaper: Round) -> None:
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


def test_lost_messages_are_published_again_once(ledger: Ledger, reaper: Round, redis_url: str) -> None:
    jobs = [ledger.submit() for _ in range(5)]
    for job_id in jobs:
        reaper.queue.publish(job_id)
        ledger.turn_back(job_id, "published_at", 60)
    assert reaper().republished == []
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert reaper().republished == jobs
    assert reaper().republished == []
    assert reaper.queue.depth() == 5


def test_many_waiting_jobs_do_not_flood_the_queue(ledger: Ledger, reaper: Round) -> None:
    jobs = [ledger.submit() for _ in range(20)]
    for job_id in jobs[:17]:  # three messages were lost
        reaper.queue.publish(job_id)
    for _ in range(10):
        for job_id in jobs:
            ledger.turn_back(job_id, "published_at", 60)
        reaper()
    assert reaper.queue.depth() == 20


def test_the_next_job_is_published_if_the_first_was_not_missing(ledger: Ledger, reaper: Round, redis_url: str) -> None:
    jobs = [ledger.submit() for _ in range(3)]
    for job_id in jobs[:2]:
        reaper.queue.publish(job_id)
    for expected in (jobs[0], jobs[1], jobs[2]):
        for job_id in jobs:
            ledger.turn_back(job_id, "published_at", 60)
        assert reaper().republished == [expected]
        with redis.Redis.from_url(redis_url) as client:
            client.rpop("vgid")


def test_a_message_that_may_still_arrive_is_not_sent_twice(ledger: Ledger, reaper: Round) -> None:
    ledger.submit()
    assert reaper().republished == []
    assert reaper.queue.depth() == 0


def test_every_lost_message_is_found_as_the_queue_drains(ledger: Ledger, reaper: Round, redis_url: str) -> None:
    jobs = [ledger.submit() for _ in range(6)]
    for job_id in jobs[:3]:  # the messages of the three newest were lost
        reaper.queue.publish(job_id)
    done: set[UUID] = set()
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(30):
            for job_id in jobs:
                ledger.turn_back(job_id, "published_at", 60)
            reaper()
            message = client.rpop("vgid")
            if message is not None:
                done |= {job_id for job_id in jobs if _cancel(ledger, job_id, message)}
    assert done == set(jobs)


def _cancel(ledger: Ledger, job_id: UUID, message: bytes) -> bool:
    """Ends the job if the message is about it, as its worker would."""
    if json.loads(message)["headers"]["argsrepr"] != repr([str(job_id)]):
        return False
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
    return True


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


def test_artifacts_that_no_job_names_are_deleted_after_an_hour(
    ledger: Ledger, blobs: FileBlobStore, tmp_path: Path
) -> None:
    source = tmp_path / "artifact.zip"
    named, orphan = (store(blobs, source, content, old=True) for content in (b"named", b"orphan"))
    fresh = store(blobs, source, b"fresh", old=False)
    job_id = ledger.submit()
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker", 30)
        assert claim is not None
        claims.succeed(s, job_id, claim.token, claims.NewArtifact(named, 5, [], {}), "steps-done")

    assert sweep_artifacts(ledger.sessions, blobs) == [orphan]

    for sha256 in (named, fresh):
        assert blobs.path_of_artifact(sha256).is_file()
    with pytest.raises(BlobMissing):
        blobs.path_of_artifact(orphan)
    assert sweep_artifacts(ledger.sessions, blobs) == []


def test_simultaneous_reapers_share_the_work(ledger: Ledger, reaper: Round) -> None:
    lost = [ledger.submit() for _ in range(6)]
    for job_id in lost:
        lose(ledger, job_id)
    waiting = [ledger.submit() for _ in range(6)]
    for job_id in waiting:
        ledger.turn_back(job_id, "published_at", 60)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: reaper(), range(4)))
    requeued = [job_id for report in reports for job_id in report.requeued]
    republished = [job_id for report in reports for job_id in report.republished]
    assert sorted(requeued) == sorted(lost)
    assert len(republished) == len(set(republished))
    for job_id in lost:
        assert len(ledger.history(job_id)) == 3
