"""What every route works with, made once for the process, and how a request reaches it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, cast
from uuid import UUID

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from api.problems import ArtifactUnavailable, NotFound, Unauthenticated
from jobs.access import artifact_of_secret, client_of_secret, job_of_secret
from jobs.catalog import Catalog
from jobs.database import SessionFactory, make_engine, reading_engine, session_factory
from jobs.queue import JobQueue
from jobs.settings import Settings
from jobs.storage.blobs import BlobStore, FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.tables import Artifact, Job

# A submission can take some hundred MB while its images are decoded; more of them at once wait their turn.
_SUBMISSIONS_AT_ONCE = 4


@dataclass(frozen=True)
class Services:
    """The ledger and its neighbours. `closing` is set when the process is about to end: long answers stop."""

    settings: Settings
    engine: Engine
    sessions: SessionFactory
    reading: Engine
    reading_sessions: SessionFactory
    catalog: Catalog
    blobs: BlobStore
    queue: JobQueue
    keyring: Keyring
    submissions: anyio.CapacityLimiter
    closing: threading.Event

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Connects to nothing yet. Raises CatalogError for an unusable catalog, OSError for the blob folder."""
        engine = make_engine(settings)
        reading = reading_engine(engine)
        return cls(
            settings=settings,
            engine=engine,
            sessions=session_factory(engine),
            reading=reading,
            reading_sessions=session_factory(reading),
            catalog=Catalog.load(settings.catalog),
            blobs=FileBlobStore(settings.blob_dir),
            queue=JobQueue(settings.redis_url),
            keyring=Keyring(settings.secret_key_bytes),
            submissions=anyio.CapacityLimiter(_SUBMISSIONS_AT_ONCE),
            closing=threading.Event(),
        )

    def close(self) -> None:
        """Ends long answers and closes the connections."""
        self.closing.set()
        self.queue.close()
        self.engine.dispose()

    def subject_hash(self, reference: str) -> str:
        """What is stored, and looked up, instead of a subject reference."""
        return self.keyring.keyed_hash("subject-reference", reference)


class OwnJob(NamedTuple):
    """A job of the client who asks for it."""

    session: Session
    job: Job
    artifact: Artifact | None


class StoredArtifact(NamedTuple):
    """What a download needs to know: where the zip is, how large, and its files as {name, sha256, size}."""

    sha256: str
    size_bytes: int
    files: list[dict[str, Any]]


@dataclass(frozen=True)
class Caller:
    """Whoever sent the request. Only the database can say who that is, so it is asked where the rows are read too:
    in the same thread and over the same connection. There is no other way to a client's id or to its job.
    """

    services: Services
    secret: str = field(repr=False)

    @contextmanager
    def reading(self) -> Iterator[tuple[Session, UUID]]:
        """A session that only reads, and the client's id. Raises Unauthenticated."""
        with self.services.reading_sessions() as s:
            client_id = client_of_secret(s, self.secret)
            if client_id is None:
                raise _invalid_key()
            yield s, client_id

    @contextmanager
    def reading_job(self, job_id: UUID) -> Iterator[OwnJob]:
        """The client's job, its artifact, and a session to read more of it.

        Raises Unauthenticated, and NotFound the same way for a job that never was and for another client's.
        """
        with self.services.reading_sessions() as s:
            found = job_of_secret(s, self.secret, job_id)
            if found is None:
                raise _invalid_key()
            if found.job is None:
                raise NotFound("There is no such job.")
            yield OwnJob(s, found.job, found.artifact)

    def own_artifact(self, job_id: UUID) -> StoredArtifact:
        """What the client's job left. Raises Unauthenticated, NotFound as above, and ArtifactUnavailable."""
        with self.services.reading.connect() as connection:
            found = artifact_of_secret(connection, self.secret, job_id)
        if found is None:
            raise _invalid_key()
        if found.state is None:
            raise NotFound("There is no such job.")
        if found.sha256 is None or found.size_bytes is None or found.files is None:
            raise ArtifactUnavailable(f"The job is {found.state.value}; only a job that has succeeded has an artifact.")
        return StoredArtifact(found.sha256, found.size_bytes, found.files)

    def client_id(self) -> UUID:
        """The client's id, for what doesn't read at once. Raises Unauthenticated."""
        with self.reading() as (_, client_id):
            return client_id


def _invalid_key() -> Unauthenticated:
    return Unauthenticated("The API key is unknown or has been revoked.")


async def services_of(request: Request) -> Services:
    """The services of the application that handles `request`."""
    return cast(Services, request.app.state.services)


class _CallerOf(HTTPBearer):
    """Who sent a key that is still to be judged.

    One dependency without any of its own: FastAPI solves every one again wherever it is named, and this is named twice.
    """

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]  # who it is, not what was sent
        """The caller. Raises Unauthenticated when there is no key."""
        credentials = await super().__call__(request)
        if credentials is None:
            raise Unauthenticated("Send an API key as 'Authorization: Bearer <key>'.")
        return Caller(await services_of(request), credentials.credentials)


caller_of = _CallerOf(
    scheme_name="ApiKey", auto_error=False, description="A key made by `vgid keys create`, as `Authorization: Bearer`."
)

ServicesNeeded = Annotated[Services, Depends(services_of)]
CallerNeeded = Annotated[Caller, Depends(caller_of)]
