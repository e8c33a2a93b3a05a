"""Clients, their API keys, and reads that check a key in the same statement."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, func, select, update
from sqlalchemy.orm import Session, defer

from jobs.clients.limits import ClientLimits
from jobs.states import Kind, State
from jobs.tables import ApiKey, Artifact, Client, Job, Right

_MARK = "vgid_"  # lets secret scanners recognise a leaked key
_PREFIX_LENGTH = len(_MARK) + 8
# Every request runs one of these statements, so they are built once.
_VALID = (ApiKey.secret_hash == bindparam("secret_hash"), ApiKey.revoked_at.is_(None))
_CLIENT = select(ApiKey.client_id, ApiKey.rights).where(*_VALID)
_CLIENT_WITH_LIMITS = _CLIENT.add_columns(Client.limits).join(Client, Client.id == ApiKey.client_id)
_OF_CLIENT = (Job.client_id == ApiKey.client_id, Job.id == bindparam("job_id"))
_CLIENT_AND_JOB = (
    select(ApiKey.client_id, Job, Artifact)
    .outerjoin(Job, and_(*_OF_CLIENT, Job.kind == bindparam("kind")))
    .outerjoin(Artifact, Artifact.job_id == Job.id)
    .where(*_VALID)
    # No client sees the wrapped key or the claim. Manifests and receipts can be long.
    .options(
        defer(Job.wrapped_data_key), defer(Job.request_hash), defer(Job.attempt_token), defer(Job.worker),
        defer(Job.lease_expires_at), defer(Job.updated_at), defer(Job.receipt), defer(Artifact.manifest),
    )
)  # fmt: skip

_CLIENT_AND_ARTIFACT = (
    select(ApiKey.client_id, Job.state, Artifact.sha256, Artifact.size_bytes, Artifact.files)
    .outerjoin(Job, and_(*_OF_CLIENT, Job.kind == Kind.unlearn))
    .outerjoin(Artifact, Artifact.job_id == Job.id)
    .where(*_VALID)
)


class KeyHolder(NamedTuple):
    """A valid key's client, and what the key may do beyond the client's own jobs."""

    client_id: UUID
    rights: frozenset[Right]


class AuthenticatedArtifact(NamedTuple):
    """The key's client, and what a download of its job's artifact needs.

    state: the job's, None if the client has no such job. The rest is None if the job has no artifact.
    """

    client_id: UUID
    state: State | None
    sha256: str | None
    size_bytes: int | None
    files: list[dict[str, Any]] | None


class AuthenticatedJob(NamedTuple):
    """The key's client and its job.

    job: None if the client has no such job of this kind. artifact: None if the job has none.
    """

    client_id: UUID
    job: Job | None
    artifact: Artifact | None


def create_client(s: Session, name: str) -> Client:
    """Creates a client. Raises sqlalchemy.exc.IntegrityError when the name is taken."""
    client = Client(name=name)
    s.add(client)
    s.flush()
    return client


def find_client(s: Session, name: str) -> Client | None:
    """The client of that name, or None."""
    return s.scalar(select(Client).where(Client.name == name))


def limits_of(client: Client) -> ClientLimits:
    """What the client may use."""
    return ClientLimits.model_validate(client.limits)


def set_limits(s: Session, client: Client, limits: ClientLimits) -> None:
    """Sets all limits of the client. Claims heed them at once, requests within half a minute."""
    client.limits = limits.differing()
    s.flush()


def create_key(s: Session, client: Client, rights: Collection[Right] = ()) -> tuple[ApiKey, str]:
    """Creates a key and returns it with its secret. The secret can't be read again: only its hash is stored."""
    secret = _MARK + secrets.token_urlsafe(32)
    given = sorted(set(rights))
    key = ApiKey(client_id=client.id, prefix=secret[:_PREFIX_LENGTH], secret_hash=_hash(secret), rights=given)
    s.add(key)
    s.flush()
    return key, secret


def authenticate(s: Session, secret: str) -> KeyHolder | None:
    """The key's client and the key's rights, or None when the key is unknown or revoked."""
    row = s.execute(_CLIENT, {"secret_hash": _hash(secret)}).one_or_none()
    return None if row is None else _holder(*row)


def holder_with_limits(s: Session, secret: str) -> tuple[KeyHolder, ClientLimits] | None:
    """As `authenticate`, with what the client may use."""
    row = s.execute(_CLIENT_WITH_LIMITS, {"secret_hash": _hash(secret)}).one_or_none()
    return None if row is None else (_holder(row[0], row[1]), ClientLimits.model_validate(row[2]))


def _holder(client_id: UUID, rights: Sequence[str]) -> KeyHolder:
    return KeyHolder(client_id, frozenset(map(Right, rights)))


def authenticate_for_job(s: Session, secret: str, job_id: UUID, kind: Kind) -> AuthenticatedJob | None:
    """Checks the key and reads the job in one statement. None when the key is unknown or revoked.

    Columns that no client sees aren't loaded.
    """
    row = s.execute(_CLIENT_AND_JOB, {"secret_hash": _hash(secret), "job_id": job_id, "kind": kind}).one_or_none()
    return None if row is None else AuthenticatedJob(*row)


def authenticate_for_artifact(connection: Connection, secret: str, job_id: UUID) -> AuthenticatedArtifact | None:
    """Checks the key and reads what a download needs in one statement. None when the key is unknown or revoked.

    It takes a connection and reads columns: a session and ORM objects would cost more time than the statement.
    """
    row = connection.execute(_CLIENT_AND_ARTIFACT, {"secret_hash": _hash(secret), "job_id": job_id}).one_or_none()
    return None if row is None else AuthenticatedArtifact(*row)


def list_keys(s: Session) -> Sequence[tuple[ApiKey, Client]]:
    """Every key with its client, by the client's name, oldest first."""
    return s.execute(select(ApiKey, Client).join(Client).order_by(Client.name, ApiKey.created_at)).all()


def revoke_key(s: Session, prefix: str) -> bool:
    """Revokes the key. False when no valid key has that prefix."""
    revoked = s.scalar(
        update(ApiKey)
        .where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
    )
    return revoked is not None


def change_rights(s: Session, prefix: str, give: Collection[Right], take: Collection[Right]) -> frozenset[Right] | None:
    """Changes what the key may do; from its next request on that counts. Returns its rights.

    None when no valid key has that prefix.
    """
    found = select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None)).with_for_update()
    key = s.scalar(found)
    if key is None:
        return None
    key.rights = sorted((set(map(Right, key.rights)) | set(give)) - set(take))
    s.flush()
    return frozenset(map(Right, key.rights))


def _hash(secret: str) -> str:
    # The secret holds 256 random bits, unlike a password, so a fast unsalted hash is safe.
    return hashlib.sha256(secret.encode()).hexdigest()
