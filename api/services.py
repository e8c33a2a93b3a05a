"""What every route works with, made once for the process, and how a request reaches it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from api.problems import Unauthenticated
from jobs.access import client_of_secret
from jobs.blobs import BlobStore, FileBlobStore
from jobs.catalog import Catalog
from jobs.crypto import Keyring
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.queue import JobQueue
from jobs.settings import Settings

# A submission can take some hundred MB while its images are decoded; more of them at once wait their turn.
_SUBMISSIONS_AT_ONCE = 4


@dataclass(frozen=True)
class Services:
    """The ledger and its neighbours. `closing` is set when the process is about to end: long answers stop."""

    settings: Settings
    engine: Engine
    sessions: SessionFactory
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
        return cls(
            settings=settings,
            engine=engine,
            sessions=session_factory(engine),
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


def services_of(request: Request) -> Services:
    """The services of the application that handles `request`."""
    return cast(Services, request.app.state.services)


_bearer = HTTPBearer(
    scheme_name="ApiKey", auto_error=False, description="A key made by `vgid keys create`, as `Authorization: Bearer`."
)


def authenticated_client(
    services: Annotated[Services, Depends(services_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> UUID:
    """The id of the client whose key came with the request. Raises Unauthenticated."""
    if credentials is None:
        raise Unauthenticated("Send an API key as 'Authorization: Bearer <key>'.")
    with services.sessions() as s:
        client = client_of_secret(s, credentials.credentials)
    if client is None:
        raise Unauthenticated("The API key is unknown or has been revoked.")
    return client.id


ServicesNeeded = Annotated[Services, Depends(services_of)]
ClientNeeded = Annotated[UUID, Depends(authenticated_client)]
