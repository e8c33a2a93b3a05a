"""Encryption. Every job has a data key of its own. Once that key is dropped, the job's uploads are unreadable."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32
_NONCE_BYTES = 12


class DecryptionError(Exception):
    """The bytes were altered, or were encrypted with another key or for another job."""


def encrypt(key: bytes, plain: bytes, bound_to: bytes = b"") -> bytes:
    """Encrypts with AES-256-GCM and puts the fresh nonce in front. Decrypting needs the same `bound_to`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to)


def decrypt(key: bytes, sealed: bytes, bound_to: bytes = b"") -> bytes:
    """Decrypts what `encrypt` returned. Raises DecryptionError."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise DecryptionError("can't be decrypted with this key") from None


class Keyring:
    """The keys that are derived from the installation's secret key (32 bytes)."""

    def __init__(self, secret_key: bytes) -> None:
        self._wrapping_key = _derive(secret_key, b"vgid/wrap-data-keys")
        self._hashing_key = _derive(secret_key, b"vgid/keyed-hashes")
        self._salting_key = _derive(secret_key, b"vgid/statement-salts")

    def new_data_key(self, job_id: UUID) -> tuple[bytes, bytes]:
        """Makes a key for one job. Returns the key and its wrapped form, which the job's row holds until the end."""
        data_key = secrets.token_bytes(_KEY_BYTES)
        return data_key, encrypt(self._wrapping_key, data_key, job_id.bytes)

    def unwrap(self, wrapped_data_key: bytes, job_id: UUID) -> bytes:
        """Unwraps the job's data key. Raises DecryptionError for another job's key or another installation's secret."""
        return decrypt(self._wrapping_key, wrapped_data_key, job_id.bytes)

    def statement_salt(self, job_id: UUID) -> bytes:
        """The salt of the keyed digests in the job's statement. Only the job's client is told it.

        Derived, so that nothing in the database helps to test guesses of what a statement is about.
        """
        return hmac.digest(self._salting_key, job_id.bytes, hashlib.sha256)

    def keyed_hash(self, purpose: str, value: str | bytes) -> str:
        """HMAC-SHA256 of the value, in hex. Who reads the database alone can't guess the value from it.

        Equal values give different hashes for different purposes.
        """
        data = value.encode() if isinstance(value, str) else value
        label = purpose.encode()
        return hmac.digest(self._hashing_key, len(label).to_bytes(2, "big") + label + data, hashlib.sha256).hex()


def _derive(secret_key: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=use).derive(secret_key)
