"""A ledger for the tests, with real Postgres, real Redis and real files."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobs import claims, repository
from jobs.claims import Claim
from jobs.clients import access
from jobs.database import SessionFactory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.storage.blobs import FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.tables import Job


class Ledger:
    """Shortcuts to the public functions, each in one transaction."""

    def __init__(self, sessions: SessionFactory, keyring: Keyring) -> None:
        self.sessions = sessions
        self.keyring = keyring
        self.client_id = self.new_client()

    def new_client(self) -> UUID:
        with self.sessions.begin() as s:
            return access.create_client(s, f"client {uuid4().hex}").id

    def submit(self, client_id: UUID | None = None, **fields: object) -> UUID:
        job = self.new_job(client_id=client_id or self.client_id, **fields)
        with self.sessions.begin() as s:
            repository.submit(s, job)
        return job.id

    def submit_apart(self, client_id: UUID | None = None, **fields: object) -> UUID:
        """A job with a model of its own, so that no other job is before it in its line."""
        return self.submit(client_id, model=uuid4().hex, **fields)

    def new_job(self, **fields: object) -> Job:
        job_id = uuid4()
        values: dict[str, object] = {
            "id": job_id,
            "client_id": self.client_id,
            "model": "demo",
            "config": {"seed": 0},
            "forget_pairs": 3,
            "retain_pairs": None,
            "retain_set": "demo-retain",
            "probes": {"rephrased": 2},
            "request_hash": self.keyring.keyed_hash("request", b"{}"),
            "wrapped_data_key": self.keyring.new_data_key(job_id)[1],
        }
        return Job(**{**values, **fields})

    def claim_next(self, run_requests: int = 1, gather_seconds: float = 0) -> Claim | None:
        with self.sessions.begin() as s:
            return claims.claim_next(s, "worker", 30, run_requests=run_requests, gather_seconds=gather_seconds)

    def job(self, job_id: UUID) -> Job:
        with self.sessions.begin() as s:
            return s.get_one(Job, job_id)

    def history(self, job_id: UUID, kind: str = "state") -> list[dict[str, object]]:
        with self.sessions.begin() as s:
            return [event.data for event in repository.events_after(s, job_id, 0, 10_000) if event.kind == kind]

    def turn_back(self, job_id: UUID, column: str, seconds: float) -> None:
        """Moves one of the job's times into the past, so that a test needn't wait."""
        statement = f"UPDATE jobs SET {column} = {column} - make_interval(secs => :seconds) WHERE id = :id"
        with self.sessions.begin() as s:
            s.execute(text(statement), {"seconds": seconds, "id": job_id})


@pytest.fixture
def keyring(settings: Settings) -> Keyring:
    return Keyring(settings.secret_key_bytes)


@pytest.fixture
def ledger(session_factory: SessionFactory, keyring: Keyring) -> Ledger:
    return Ledger(session_factory, keyring)


@pytest.fixture
def blobs(settings: Settings) -> FileBlobStore:
    return FileBlobStore(settings.blob_dir)


@pytest.fixture
def queue(settings: Settings) -> Iterator[JobQueue]:
    queue = JobQueue(settings.redis_url)
    yield queue
    queue.close()
