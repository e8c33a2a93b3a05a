"""Spare processes: a job starts warm with one, and runs all the same without."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from jobs.states import State
from jobs.tables import Artifact
from tests.processes import has_ended
from tests.vgid_core.support.tiny import save_tiny_model
from tests.waiting import eventually
from tests.worker.harness import Ledger
from vgid_core.models.load import digest_of

pytestmark = pytest.mark.slow

LONG = 2000  # steps: longer than any test waits


def test_every_job_gets_a_spare_of_its_own_and_the_next_one_starts_meanwhile(ledger: Ledger, start_worker):
    worker = start_worker(warm=True)
    first = worker.spare()
    ledger.until_training(long := ledger.submit(LONG))
    assert worker.attempts() == [first]
    second = worker.spare()
    assert ledger.job(long).state is State.running
    ledger.cancel(long)
    eventually(lambda: has_ended(first))

    ledger.until(ledger.submit(), State.succeeded)

    assert worker.starts() == ["warm", "warm"]
    assert first != second
    eventually(lambda: has_ended(second))


def test_a_spare_that_died_while_waiting_costs_the_job_nothing(ledger: Ledger, start_worker):
    worker = start_worker(warm=True)
    spare = worker.spare()
    spare.kill()
    eventually(lambda: has_ended(spare))

    job = ledger.until(ledger.submit(), State.succeeded)

    assert (job.attempt, worker.starts()[-1]) == (1, "cold")


def test_a_spare_that_dies_before_it_begins_costs_the_job_no_attempt(ledger: Ledger, start_worker):
    worker = start_worker(warm=True)
    spare = worker.spare()
    spare.send_signal(signal.SIGSTOP)
    job_id = ledger.submit()
    eventually(lambda: worker.starts() == ["warm"])

    spare.kill()

    assert ledger.until(job_id, State.succeeded).attempt == 1
    assert worker.starts() == ["warm", "cold"]


def test_weights_that_have_changed_are_read_again(ledger: Ledger, start_worker, tmp_path: Path, tiny_folder: Path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    write_catalog(ledger, folder)
    worker = start_worker(warm=True)
    worker.spare()
    save_tiny_model(folder, seed=1)

    assert base_digest(ledger) == digest_of(str(folder)) != digest_of(str(tiny_folder))
    assert worker.starts() == ["warm"]


def test_a_changed_catalog_decides_which_model_is_used(ledger: Ledger, start_worker, tmp_path: Path, tiny_folder: Path):
    write_catalog(ledger, tiny_folder)
    worker = start_worker(warm=True)
    worker.spare()
    other = save_tiny_model(tmp_path / "other", seed=1)
    write_catalog(ledger, other)

    assert base_digest(ledger) == digest_of(str(other)) != digest_of(str(tiny_folder))


def test_a_spare_for_another_model_is_replaced(ledger: Ledger, start_worker, tmp_path: Path, tiny_folder: Path):
    first = f"[models.first]\npath = '{save_tiny_model(tmp_path / 'first', seed=1)}'\ntitle = 'First'\n"
    ledger.settings.catalog.write_text(f"{first}[models.tiny]\npath = '{tiny_folder}'\ntitle = 'Tiny'\n")
    worker = start_worker(warm=True)
    for_another = worker.spare()

    assert base_digest(ledger) == digest_of(str(tiny_folder))

    assert has_ended(for_another)
    worker.spare()
    assert base_digest(ledger) == digest_of(str(tiny_folder))
    assert worker.starts() == ["cold", "warm"]


def test_a_killed_worker_ends_its_spare_and_even_a_frozen_attempt(ledger: Ledger, start_worker):
    worker = start_worker(warm=True)
    worker.spare()
    ledger.until_training(ledger.submit(LONG))
    attempt = worker.attempt()
    (spare,) = eventually(worker.spares)
    attempt.send_signal(signal.SIGSTOP)

    worker.kill()

    eventually(lambda: has_ended(attempt) and has_ended(spare), seconds=5)


@pytest.mark.usefixtures("ledger")
def test_a_stopped_worker_leaves_no_spare(start_worker):
    worker = start_worker(warm=True)
    spare = worker.spare()

    assert worker.terminate() == 0

    assert has_ended(spare)


@pytest.mark.usefixtures("ledger")
def test_every_accelerator_has_a_spare_of_its_own(start_worker, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    worker = start_worker(warm=True)

    spares = eventually(lambda: found if len(found := worker.spares()) == 2 else None)

    assert {spare.environ()["CUDA_VISIBLE_DEVICES"] for spare in spares} == {"4", "7"}


def write_catalog(ledger: Ledger, folder: Path) -> None:
    ledger.settings.catalog.write_text(f"[models.tiny]\npath = '{folder}'\ntitle = 'Tiny'\n", encoding="utf-8")


def base_digest(ledger: Ledger) -> str:
    """The digest of the model that a job ran on, from its manifest."""
    job_id = ledger.submit()
    ledger.until(job_id, State.succeeded)
    with ledger.sessions() as s:
        artifact = s.get(Artifact, job_id)
    assert artifact is not None
    return artifact.manifest["base_model"]["digest"]
