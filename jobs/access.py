"""Clients and their API keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, func, select, update
from sqlalchemy.orm import Session, defer

from jobs.states import State
from jobs.tables import ApiKey, Artifact, Client, Job

_MARK = "vgid_"  # lets secret scanners recognise a leaked key
_PREFIX_LENGTH = len(_MARK) + 8
# asked with every request, so put together once
_VALID = (ApiKey.secret_hash == bindparam("secret_hash"), ApiKey.revoked_at.is_(None))
_CLIENT_OF_KEY = select(ApiKey.client_id).where(*_VALID)
_JOB_OF_KEY = (
    select(ApiKey.client_id, Job, Artifact)
    .outerjoin(Job, and_(Job.client_id == ApiKey.client_id, Job.id == bindparam("job_id")))
    .outerjoin(Artifact, Artifact.job_id == Job.id)
    .where(*_VALID)
    # neither the wrapped key nor the claim is a client's to see, and a manifest can be long
    .options(
        defer(Job.wrapped_data_key), defer(Job.request_hash), defer(Job.attempt_token), defer(Job.worker),
        defer(Job.lease_expires_at), defer(Job.published_at), defer(Job.updated_at), defer(Artifact.manifest),
    )
)  # fmt: skip

_ARTIFACT_OF_KEY = (
    select(ApiKey.client_id, Job.state, Artifact.sha256, Artifact.size_bytes, Artifact.files)
    .outerjoin(Job, and_(Job.client_id == ApiKey.client_id, Job.id == bindparam("job_id")))
    .outerjoin(Artifact, Artifact.job_id == Job.id)
    .where(*_VALID)
)


class KeyedArtifact(NamedTuple):
    """Whose key it is; the state of that client's job, None where it has no such job; and what a download needs."""

    client_id: UUID
    state: State | None
    sha256: str | None
    size_bytes: int | None
    files: list[dict[str, Any]] | None


class KeyedJob(NamedTuple):
    """Whose key it is; that client's job, None where it has no such job; and the job's artifact, if it has one."""

    client_id: UUID
    job: Job | None
    artifact: Artifact | None


def create_client(s: Session, name: str) -> Client:
    """A new client. Raises sqlalchemy.exc.IntegrityError when the name is taken."""
    client = Client(name=name)
    s.add(client)
    s.flush()
    return client


def find_client(s: Session, name: str) -> Client | None:
    """The client of that name, or None."""
    return s.scalar(select(Client).where(Client.name == name))


def create_key(s: Session, client: Client) -> tuple[ApiKey, str]:
    """A new key and its secret. The secret can't be read again: only its hash is kept."""
    secret = _MARK + secrets.token_urlsafe(32)
    key = ApiKey(client_id=client.id, prefix=secret[:_PREFIX_LENGTH], secret_hash=_hash(secret))
    s.add(key)
    s.flush()
    return key, secret


def client_of_secret(s: Session, secret: str) -> UUID | None:
    """The id of the client whose key this is, or None when it is unknown or revoked."""
    return s.scalar(_CLIENT_OF_KEY, {"secret_hash": _hash(secret)})


def job_of_secret(s: Session, secret: str, job_id: UUID) -> KeyedJob | None:
    """The job with the key that asks for it, in one statement; None when the key is unknown or revoked.

    What no client sees isn't loaded.
    """
    row = s.execute(_JOB_OF_KEY, {"secret_hash": _hash(secret), "job_id": job_id}).one_or_none()
    return None if row is None else KeyedJob(*row)


def artifact_of_secret(connection: Connection, secret: str, job_id: UUID) -> KeyedArtifact | None:
    """As `job_of_secret`, what a download needs alone, without a session: both take longer than to find the rows."""
    row = connection.execute(_ARTIFACT_OF_KEY, {"secret_hash": _hash(secret), "job_id": job_id}).one_or_none()
    return None if row is None else KeyedArtifact(*row)


def list_keys(s: Session) -> Sequence[tuple[ApiKey, Client]]:
    """Every key with its client, by the client's name, oldest first."""
    return s.execute(select(ApiKey, Client).join(Client).order_by(Client.name, ApiKey.created_at)).all()


def revoke_key(s: Session, prefix: str) -> bool:
    """Makes the key useless from now on. False when no valid key has that prefix."""
    revoked = s.scalar(
        update(ApiKey)
        .where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
    )
    return revoked is not None


def _hash(secret: str) -> str:
    # 256 random bits can't be guessed, so a plain fast hash is enough; it isn't a password
    return hashlib.sha256(secret.encode()).hexdigest()
