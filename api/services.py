"""What the routes share: the process's services, and the caller whose API key came with the request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from api.limits.known_clients import KnownClients
from api.limits.quotas import Quotas
from api.limits.remembered import Remembered
from api.limits.turns import CheckTurns
from api.limits.uploads import Uploads
from api.problems import ArtifactUnavailable, NotFound, Unauthenticated
from jobs.catalog import Catalog
from jobs.clients.access import KeyHolder, authenticate, authenticate_for_artifact, authenticate_for_job
from jobs.database import SessionFactory, autocommit_engine, make_engine, session_factory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.signing.timestamp import read_roots
from jobs.states import Kind
from jobs.storage.blobs import BlobStore, FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.tables import Artifact, Job


class Condition(NamedTuple):
    """What is the matter with each part that requests need, None where nothing is; and paused workers by reason."""

    faults: dict[str, str | None]
    paused_workers: dict[str, int]


@dataclass(frozen=True)
class Services:
    """The connections and settings that all routes use.

    read_engine, read_sessions: for requests that only read; each statement is a transaction of its own.
    timestamp_roots: certificates of the time stamping authority, in PEM.
    uploads, checks: whose requests are here, and whose is checked now.
    quotas, clients: what clients have used, and what they may.
    condition: whether requests can be taken, as it was lately.
    closing: set when the process is about to end, so that event streams stop.
    """

    settings: Settings
    engine: Engine
    sessions: SessionFactory
    read_engine: Engine
    read_sessions: SessionFactory
    catalog: Catalog
    blobs: BlobStore
    queue: JobQueue
    keyring: Keyring
    uploads: Uploads
    checks: CheckTurns
    quotas: Quotas
    clients: KnownClients
    condition: Remembered[Condition]
    timestamp_roots: tuple[str, ...]
    closing: threading.Event

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Connects to nothing yet. Raises CatalogError for an unusable catalog, OSError for the blob folder, and
        OSError or ValueError for the time stamping authority's certificates.
        """
        engine = make_engine(settings, answer_seconds=settings.database_seconds)
        read_engine = autocommit_engine(engine)
        return cls(
            settings=settings,
            engine=engine,
            sessions=session_factory(engine),
            read_engine=read_engine,
            read_sessions=session_factory(read_engine),
            catalog=Catalog.load(settings.catalog),
            blobs=FileBlobStore(settings.blob_dir),
            queue=JobQueue(settings.redis_url),
            keyring=Keyring(settings.secret_key_bytes),
            uploads=Uploads(),
            checks=CheckTurns(settings.checks_at_once),
            quotas=Quotas(settings.redis_url),
            clients=KnownClients(session_factory(read_engine)),
            condition=Remembered(),
            timestamp_roots=read_roots(settings.tsa_roots),
            closing=threading.Event(),
        )

    def close(self) -> None:
        """Ends event streams and closes the connections."""
        self.closing.set()
        self.queue.close()
        self.engine.dispose()

    def line_of(self, model: str, client_id: UUID) -> str:
        """The line of this model in which the client's requests are run. Raises KeyError for an unknown model."""
        return self.catalog.models[model].line_of(client_id)

    def subject_hash(self, reference: str) -> str:
        """The keyed hash that is stored, and searched for, instead of a subject reference."""
        return self.keyring.keyed_hash("subject-reference", reference)


class OwnJob(NamedTuple):
    """A job that belongs to the caller, and a session to read more of it."""

    session: Session
    job: Job
    artifact: Artifact | None


class StoredArtifact(NamedTuple):
    """What a download needs: the zip's sha256 and size, and its files as {name, sha256, size}."""

    sha256: str
    size_bytes: int
    files: list[dict[str, Any]]


@dataclass(frozen=True)
class Caller:
    """The client that sent the request, known by its API key alone.

    Only Postgres can tell whether the key is valid. Each method asks for that in the statement that reads the rows, so
    no route can read anything without a valid key. There is no other way to a client's id or jobs.
    """

    services: Services
    secret: str = field(repr=False)

    @contextmanager
    def session(self) -> Iterator[tuple[Session, KeyHolder]]:
        """Opens a read session, and gives the client and the key's rights with it. Raises Unauthenticated."""
        with self.services.read_sessions() as s:
            key = authenticate(s, self.secret)
            if key is None:
                raise invalid_key()
            yield s, key

    @contextmanager
    def job(self, job_id: UUID, kind: Kind) -> Iterator[OwnJob]:
        """Opens a read session with the client's job of this kind and its artifact.

        Raises Unauthenticated, or NotFound. Another client's job and a job that never was give the same NotFound.
        """
        with self.services.read_sessions() as s:
            found = authenticate_for_job(s, self.secret, job_id, kind)
            if found is None:
                raise invalid_key()
            if found.job is None:
                raise NotFound("There is no such job.")
            yield OwnJob(s, found.job, found.artifact)

    def artifact(self, job_id: UUID) -> StoredArtifact:
        """The artifact of the client's job. Raises as `job` does, and ArtifactUnavailable."""
        with self.services.read_engine.connect() as connection:
            found = authenticate_for_artifact(connection, self.secret, job_id)
        if found is None:
            raise invalid_key()
        if found.state is None:
            raise NotFound("There is no such job.")
        if found.sha256 is None or found.size_bytes is None or found.files is None:
            raise ArtifactUnavailable(
                f"The job is {found.state.value}; only a job whose training has ended has an artifact."
            )
        return StoredArtifact(found.sha256, found.size_bytes, found.files)

    def client_id(self) -> UUID:
        """The client's id, for a route that reads nothing. Raises Unauthenticated."""
        with self.session() as (_, key):
            return key.client_id


def invalid_key() -> Unauthenticated:
    """The refusal of a key that isn't valid."""
    return Unauthenticated("The API key is unknown or has been revoked.")


async def get_services(request: Request) -> Services:
    """The services of the application that handles `request`."""
    return cast(Services, request.app.state.services)


class _BearerKey(HTTPBearer):
    """Reads the API key from the request. Whether the key is valid is asked later, by Caller.

    It depends on nothing else: FastAPI resolves a dependency again wherever it is named, and this one is named twice.
    """

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]  # the caller, not the credentials
        """The caller. Raises Unauthenticated when there is no key, or more than one."""
        if len(request.headers.getlist("authorization")) > 1:
            raise Unauthenticated("Send one Authorization header.")
        credentials = await super().__call__(request)
        if credentials is None:
            raise Unauthenticated("Send an API key as 'Authorization: Bearer <key>'.")
        return Caller(await get_services(request), credentials.credentials)


get_caller = _BearerKey(
    scheme_name="ApiKey", auto_error=False, description="A key made by `vgid keys create`, as `Authorization: Bearer`."
)

ServicesDep = Annotated[Services, Depends(get_services)]
CallerDep = Annotated[Caller, Depends(get_caller)]
