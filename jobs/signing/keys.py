"""Signing keys: the private halves in a folder of the workers, the public halves and their times in the database.

A key is two key pairs under one id: Ed25519 for statements and receipts, ECDSA P-256 for adapter folders, because
OpenSSF Model Signing takes no Ed25519. The private halves lie in `FOLDER/<id>/`, as statements.pem and folders.pem.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.tables import SigningKey
from vgid_verify.keys import KeyFile, PublicKey, SchemeKey
from vgid_verify.signing import UnusableSigningKey, read_signer

# Shared by whoever signs, and taken alone by whoever ends a key. No lock of a row: workers may only read the keys.
_LOCK = 0x76676964_6B6579  # "vgidkey"
_STATEMENTS, _FOLDERS = "statements.pem", "folders.pem"
_NEWEST_FIRST = (SigningKey.created_at.desc(), SigningKey.id)
_VALID = (
    select(SigningKey).where(SigningKey.retired_at.is_(None), SigningKey.revoked_at.is_(None)).order_by(*_NEWEST_FIRST)
)


class SigningKeyMissing(Exception):
    """No key can sign here now. The message says what to do."""


@dataclass(frozen=True)
class PrivateKey:
    """A key that may sign. `folders` is the path of its P-256 half in PEM, as Model Signing wants it."""

    keyid: str
    statements: CryptoSigner
    folders: Path


def create(s: Session, root: Path) -> SigningKey:
    """Makes a key, writes its private halves to `root`, durably, and adds its public halves to the database.

    Raises OSError. If the commit fails afterwards, the files stay and sign nothing.
    """
    statements, folders = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa()
    keyid = statements.public_key.keyid
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = root / f".{keyid}.new"
    unfinished.mkdir(mode=0o700)
    for name, signer in ((_STATEMENTS, statements), (_FOLDERS, folders)):
        with os.fdopen(os.open(unfinished / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(signer.private_bytes)
            file.flush()
            os.fsync(file.fileno())
    unfinished.rename(root / keyid)
    row = SigningKey(
        id=keyid,
        statement_key=statements.public_key.keyval["public"],
        folder_key=folders.public_key.keyval["public"],
    )
    s.add(row)
    s.flush()
    return row


def list_keys(s: Session) -> Sequence[SigningKey]:
    """Every key that ever was, the newest first."""
    return s.scalars(select(SigningKey).order_by(*_NEWEST_FIRST)).all()


def valid_keys(s: Session) -> Sequence[SigningKey]:
    """The keys that are neither retired nor revoked, the newest first."""
    return s.scalars(_VALID).all()


def retire(s: Session, prefix: str) -> bool:
    """Ends a key's signing. What it signed before still counts. False when no valid key has an id with this prefix."""
    keyid = _only(prefix, valid_keys(s))
    if keyid is not None:
        _set_now(s, keyid, "retired_at")
    return keyid is not None


def revoke(s: Session, prefix: str) -> bool:
    """Makes all that a key has signed count no more. False when no unrevoked key has an id with this prefix."""
    keyid = _only(prefix, [key for key in list_keys(s) if key.revoked_at is None])
    if keyid is not None:
        _set_now(s, keyid, "revoked_at")
    return keyid is not None


def private_key(s: Session, root: Path | None) -> tuple[PrivateKey, datetime]:
    """The newest valid key whose private halves are in `root`, and the time by the database's clock.

    The time is what a signature of this key is to say. It lies between the key's creation and its end: until the
    transaction ends, nobody can retire or revoke the key. Raises SigningKeyMissing.
    """
    if root is None:
        raise SigningKeyMissing("VGID_SIGNING_KEYS isn't set: it names the folder of the signing keys")
    s.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))
    for row in valid_keys(s):
        folder = root / row.id
        if folder.is_dir():
            return _load(row.id, folder), s.execute(select(func.clock_timestamp())).scalar_one()
    raise SigningKeyMissing("VGID_SIGNING_KEYS holds no valid key: make one with `vgid keys signing create`")


def key_file(s: Session, timestamp_roots: Sequence[str] = ()) -> KeyFile:
    """The public halves of all keys, as a verifier reads them."""
    return KeyFile(keys=tuple(map(_public, list_keys(s))), timestamp_roots=tuple(timestamp_roots))


def _load(keyid: str, folder: Path) -> PrivateKey:
    """The private halves. Raises SigningKeyMissing for files that aren't this key's."""
    try:
        signer = read_signer(folder / _STATEMENTS)
    except (FileNotFoundError, PermissionError, UnusableSigningKey):
        raise SigningKeyMissing(f"the files of signing key {keyid[:16]} can't be read") from None
    if signer.public_key.keyid != keyid or not (folder / _FOLDERS).is_file():
        raise SigningKeyMissing(f"the files of signing key {keyid[:16]} aren't that key's")
    return PrivateKey(keyid, signer, folder / _FOLDERS)


def _set_now(s: Session, keyid: str, column: str) -> None:
    """Sets the key's time to now, once no signature is being made with it."""
    s.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    s.execute(update(SigningKey).where(SigningKey.id == keyid).values({column: func.clock_timestamp()}))


def _only(prefix: str, keys: Sequence[SigningKey]) -> str | None:
    """The id of the one key with this prefix, else None."""
    found = [key.id for key in keys if prefix and key.id.startswith(prefix)]
    return found[0] if len(found) == 1 else None


def _public(row: SigningKey) -> PublicKey:
    return PublicKey(
        keyid=row.id,
        statements=SchemeKey(keytype="ed25519", scheme="ed25519", keyval={"public": row.statement_key}),
        folders=SchemeKey(keytype="ecdsa", scheme="ecdsa-sha2-nistp256", keyval={"public": row.folder_key}),
        valid_from=row.created_at,
        valid_until=row.retired_at,
        revoked_at=row.revoked_at,
    )
