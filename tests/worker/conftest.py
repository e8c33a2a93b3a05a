from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs import claims
from jobs.database import SessionFactory, make_engine
from jobs.database import session_factory as make_session_factory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.storage.inputs import JobInputs
from jobs.tables import Job
from migrations.roles import Room
from tests.conftest import SECRET_KEY
from tests.roles import in_role, url_of_role
from tests.vgid_core.support.knowing import RETAIN, UNSEEN
from tests.vgid_core.support.tiny import pair_set
from tests.worker.harness import LOOSE, MODELS, TRAINING, Ledger, RunJob, Worker, targets_of
from vgid_core import PairSet
from worker.attempt.run import run_attempt
from worker.attempt_spec import AttemptSpec
from worker.work_folder import work_folder


@pytest.fixture
def ledger(settings: Settings, session_factory: SessionFactory, tiny_folder: Path) -> Iterator[Ledger]:
    registered = settings.catalog.parent / "registered"
    for name, first_picture in (("retain", 70), ("utility", 80)):
        pair_set(name, 3, first_picture).write_jsonl(registered / f"{name}.jsonl")
    sets = "retain = 'registered/retain.jsonl'\nutility = 'registered/utility.jsonl'\n"
    entries = [
        f"[models.{name}]\npath = '{tiny_folder}'\ntitle = 'Tiny'\n[models.{name}.retain_sets.all]\n{sets}"
        for name in MODELS
    ]
    settings.catalog.write_text("".join(entries), encoding="utf-8")
    assert settings.signing_keys is not None
    with session_factory.begin() as s:
        signing_keys.create(s, settings.signing_keys)
    queue = JobQueue(settings.redis_url)
    yield Ledger(settings, session_factory, queue)
    queue.close()


@pytest.fixture
def work_root(tmp_path: Path) -> Path:
    """The folder in which one test's workers make their work folders."""
    root = tmp_path / "work"
    root.mkdir()
    return root


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path, work_root: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers with short leases, no spare process, and these further settings. Kills them at the end.

    They have the workers' database role.
    """
    workers: list[Worker] = []

    def start(**overrides: object) -> Worker:
        chosen = {
            "database_url": url_of_role(settings.database_url, Room.worker),
            "redis_url": settings.redis_url,
            "blob_dir": settings.blob_dir,
            "catalog": settings.catalog,
            "secret_key": SECRET_KEY,
            "signing_keys": settings.signing_keys,
            "environment": "development",
            "lease_seconds": 2,
            "heartbeat_seconds": 0.3,
            "reap_seconds": 0.3,
            "cancel_grace_seconds": 1,
            "warm": False,
            **overrides,
        }
        environment = {f"VGID_{name.upper()}": str(value) for name, value in chosen.items()}
        environment |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(work_root)}
        workers.append(Worker(environment, tmp_path / f"worker-{len(workers)}.log"))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger) -> Iterator[Callable[..., Job]]:
    """Runs a queued job's attempt in this process, under the workers' role, and gives the job as it is then.

    together: how many jobs may take part in the run; more than one needs the job to be the next.
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = make_engine(in_role(ledger.settings, Room.worker))
    sessions = make_session_factory(engine)
    # An attempt never closes its connections, because its process ends with it.
    monkeypatch.setattr("worker.attempt.run.session_factory", lambda _engine: sessions)

    def run(job_id: UUID, together: int = 1) -> Job:
        with ledger.sessions.begin() as s:
            if together > 1:
                claim = claims.claim_next(s, "here", 60, run_requests=together)
            else:
                claim = claims.claim(s, job_id, "here", 60)
        assert claim is not None
        assert claim.job.id == job_id
        with work_folder() as work:
            assert run_attempt(AttemptSpec(job_id, claim.token, work), ledger.settings, None) == 0
        return ledger.job(job_id)

    yield run
    engine.dispose()


@pytest.fixture
def run_job(ledger: Ledger, run_here: Callable[[UUID], Job], knowing_folder: Path) -> RunJob:
    """Runs a job of a model that knows them, in this process, with targets that any adapter holds unless others are
    given. Its replay sets are judged by such targets, too.
    """
    UNSEEN.write_jsonl(ledger.settings.catalog.parent / "unseen.jsonl")
    registered = f"[models.tiny]\npath = '{knowing_folder}'\ntitle = 'Tiny'\nunseen = 'unseen.jsonl'\n"
    ledger.settings.catalog.write_text(registered + targets_of("tiny"))

    def run(forget: PairSet, retain: PairSet = RETAIN, **changes: Any) -> Job:
        strict = {name: changes.pop(name) for name in list(changes) if name in LOOSE}
        config = {"training": TRAINING, "verdict": {**LOOSE, **strict}}
        return run_here(ledger._submit(config, "quick", False, JobInputs(forget, retain), **changes))

    return run
