"""Clients and their API keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.tables import ApiKey, Client

_MARK = "vgid_"  # lets secret scanners recognise a leaked key
_PREFIX_LENGTH = len(_MARK) + 8


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


def client_of_secret(s: Session, secret: str) -> Client | None:
    """Whose key this is, or None when it is unknown or revoked."""
    return s.scalar(select(Client).join(ApiKey).where(ApiKey.secret_hash == _hash(secret), ApiKey.revoked_at.is_(None)))


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
