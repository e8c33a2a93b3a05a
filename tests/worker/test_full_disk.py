"""A disk that fills up under a real worker. What the system says is injected; everything else is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import repository
from jobs.states import Phase, State
from tests.waiting import eventually
from tests.worker.harness import Ledger, Worker

pytestmark = pytest.mark.slow

LONG = 400  # steps: seconds of training, in which a test can fill the disk

# Python runs this module at its start. While a file says that the disk is full, no file below the folder is written.
_FAULT = """
import errno, os

_fsync = os.fsync

def fsync(file):
    descriptor = file if isinstance(file, int) else file.fileno()
    if os.path.exists({full!r}) and os.readlink(f"/proc/self/fd/{{descriptor}}").startswith({folder!r}):
        raise OSError(errno.ENOSPC, "No space left on device")
    _fsync(file)

os.fsync = fsync
"""


class Disk:
    """The disk of the blob folder, as the worker's processes see it."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def fill(self) -> None:
        self._flag.touch()

    def empty(self) -> None:
        self._flag.unlink()


@pytest.fixture
def disk(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    site, full = tmp_path / "site", tmp_path / "full"
    site.mkdir()
    fault = _FAULT.format(full=str(full), folder=str(ledger.settings.blob_dir))
    (site / "sitecustomize.py").write_text(fault, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return Disk(full)


def until_it_waits(ledger: Ledger, worker: Worker, disk: Disk) -> object:
    """Fills the disk while a job trains, and waits until its result has waited for longer than a lease."""
    ledger.until_training(job_id := ledger.submit(LONG))
    disk.fill()
    tries = "the result waits: disk-full (ENOSPC)"
    eventually(lambda: worker.log.read_text().count(tries) >= 3, seconds=60)
    return job_id


def reasons(ledger: Ledger, job_id: object) -> list[tuple[object, object]]:
    """Why the job was put back into the queue: each reason with its errno."""
    with ledger.sessions() as s:
        events = repository.events_after(s, job_id, 0, 1000)
    return [(event.data["reason"], event.data.get("errno")) for event in events if "reason" in event.data]


def test_a_finished_training_waits_for_space_and_isnt_done_again(ledger: Ledger, start_worker, disk: Disk):
    worker = start_worker(checkpoint_seconds=1000)
    job_id = until_it_waits(ledger, worker, disk)
    job = ledger.job(job_id)
    assert (job.state, job.phase, job.attempt) == (State.running, Phase.packaging, 1)

    disk.empty()

    assert ledger.until(job_id, State.succeeded).attempt == 1
    assert ledger.history(job_id).count(Phase.distilling) == 1
    assert worker.starts() == ["cold"]


def test_a_result_that_waits_can_be_cancelled(ledger: Ledger, start_worker, disk: Disk):
    job_id = until_it_waits(ledger, start_worker(), disk)

    ledger.cancel(job_id)

    ledger.until(job_id, State.cancelled, seconds=20)


def test_a_worker_whose_result_waits_can_be_stopped(ledger: Ledger, start_worker, disk: Disk):
    worker = start_worker()
    job_id = until_it_waits(ledger, worker, disk)

    assert worker.terminate() == 0

    assert (ledger.job(job_id).state, ledger.job(job_id).attempt) == (State.queued, 0)
    assert reasons(ledger, job_id) == [("worker_stopping", None)]


def test_after_its_time_the_attempt_ends_uncounted_and_no_other_starts_before_there_is_space(
    ledger: Ledger, start_worker, disk: Disk
):
    worker = start_worker(result_seconds=0, max_attempts=1)
    ledger.until_training(job_id := ledger.submit(LONG))
    disk.fill()

    eventually(lambda: ledger.queue.pauses() == ["disk-full"], seconds=60)
    assert reasons(ledger, job_id) == [("disk-full", "ENOSPC")]
    assert (ledger.job(job_id).state, ledger.job(job_id).attempt) == (State.queued, 0)
    eventually(lambda: "no job for 4 s: disk-full (ENOSPC)" in worker.log.read_text(), seconds=60)
    assert len(worker.starts()) == 1

    disk.empty()

    assert ledger.until(job_id, State.succeeded).attempt == 1
    assert ledger.queue.pauses() == []
    assert len(worker.starts()) == 2


def test_no_job_starts_below_the_free_space_that_is_stated(ledger: Ledger, start_worker):
    worker = start_worker(min_free_bytes=2**62)
    job_id = ledger.submit()

    eventually(lambda: ledger.queue.pauses() == ["disk-full"])

    assert (ledger.job(job_id).state, worker.starts()) == (State.queued, [])
    start_worker()
    assert ledger.until(job_id, State.succeeded).attempt == 1
