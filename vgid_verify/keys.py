"""The public keys that a verifier trusts: a service's, as /.well-known/vgid-keys.json shows them, or one in PEM."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.signer import SSlibKey

from vgid_verify.text import moment, short

# Of whoever is given a PEM where a folder is to be checked.
ONE_KEY_IS_NOT_ENOUGH = "a folder is signed by two keys, and a PEM holds one: pass the service's key file"


class KeyFileError(Exception):
    """The key file can't be used. The message says why."""


class UnusableKey(Exception):
    """No signature by this key counts. The message says why."""


class SchemeKey(BaseModel):
    """One public key, in the form of securesystemslib."""

    model_config = ConfigDict(frozen=True)

    keytype: str
    scheme: str
    keyval: dict[str, str] = Field(description="`public`: hex for Ed25519, PEM for ECDSA")


def folder_key_digest(pem: str) -> str:
    """sha256, in hex, of a public key in PEM: by it statements name the key that signs folders. Raises ValueError."""
    public = load_pem_public_key(pem.encode())
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class StatementKey(BaseModel):
    """The public half of a key that signs statements. What it signed counts at any time."""

    model_config = ConfigDict(frozen=True)

    keyid: str = Field(description="sha256 of the Ed25519 key's canonical JSON, in hex")
    statements: SchemeKey = Field(description="Ed25519: signs statements and receipts")

    def statement_key(self) -> SSlibKey:
        """The Ed25519 key. Raises UnusableKey if it isn't one, or isn't the one that its id is of."""
        if (self.statements.keytype, self.statements.scheme) != ("ed25519", "ed25519"):
            raise UnusableKey(f"key {short(self.keyid)} isn't an Ed25519 key")
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.statements.keyval["public"]))
        except (KeyError, ValueError):
            raise UnusableKey(f"key {short(self.keyid)} can't be read") from None
        key = SSlibKey.from_crypto(public)
        if key.keyid != self.keyid:
            raise UnusableKey(f"the key file gives another key the id {short(self.keyid)}: somebody has changed it")
        return key

    def require_valid_at(self, signed_at: datetime) -> None:
        """Raises UnusableKey unless a signature of that time counts."""

    @property
    def note(self) -> str:
        """What a reader has to know of the key; else empty."""
        return ""


class Keys(Protocol):
    """Trusted keys."""

    def key(self, keyid: str) -> StatementKey:
        """The key of that id. Raises UnusableKey for one that isn't among them."""


class PemKey(StatementKey):
    """One key from a PEM file. It checks no folder, which needs a second key, and says no times."""

    @classmethod
    def of(cls, pem: bytes) -> PemKey:
        """Reads what `openssl pkey -pubout` writes. Raises KeyFileError."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                "this PEM holds no public key: `openssl pkey -in KEY.pem -pubout` writes a private key's public half"
            ) from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError("the key in this PEM isn't an Ed25519 key, which alone signs statements")
        found = SSlibKey.from_crypto(key)
        return cls(
            keyid=found.keyid, statements=SchemeKey(keytype=found.keytype, scheme=found.scheme, keyval=found.keyval)
        )

    def key(self, keyid: str) -> PemKey:
        """Itself. Raises UnusableKey for another id."""
        if keyid != self.keyid:
            raise UnusableKey(f"it is signed by key {short(keyid)}, and the PEM holds key {short(self.keyid)}")
        return self

    @property
    def note(self) -> str:
        """That nobody says when it counts."""
        return "of which a PEM says no times: ask its owner whether it still counts"


class PublicKey(StatementKey):
    """A signing key's public halves, and when its signatures count.

    statements: Ed25519, for statements and receipts. folders: ECDSA P-256, for Model Signing, which takes no Ed25519.
    """

    folders: SchemeKey = Field(description="ECDSA P-256: signs adapter folders (OpenSSF Model Signing)")
    valid_from: AwareDatetime = Field(description="nothing was signed before")
    valid_until: AwareDatetime | None = Field(description="when it was retired; what it signed before still counts")
    revoked_at: AwareDatetime | None = Field(description="when it was revoked; nothing that it signed counts")

    def require_valid_at(self, signed_at: datetime) -> None:
        """Raises UnusableKey unless a signature of that time counts."""
        name = f"key {short(self.keyid)}"
        if self.revoked_at is not None:
            raise UnusableKey(f"{name} was revoked at {moment(self.revoked_at)}: nothing that it signed counts")
        if signed_at < self.valid_from:
            raise UnusableKey(f"{name} is valid from {moment(self.valid_from)}, and this was signed before")
        if self.valid_until is not None and signed_at > self.valid_until:
            raise UnusableKey(f"{name} was retired at {moment(self.valid_until)}, and this was signed later")

    @property
    def note(self) -> str:
        """What a reader has to know of a key that is retired; else empty."""
        return "" if self.valid_until is None else f"retired at {moment(self.valid_until)}; it signed this before"


class KeyFile(BaseModel):
    """All keys of one service, those included that sign no more."""

    model_config = ConfigDict(frozen=True)

    format: Literal["vgid-keys/1"] = "vgid-keys/1"
    keys: tuple[PublicKey, ...]
    timestamp_roots: tuple[str, ...] = Field(
        default=(), description="PEM certificates of the authority that stamps statements with the time (RFC 3161)"
    )

    @classmethod
    def load(cls, path: Path) -> KeyFile:
        """Reads the file. Raises KeyFileError."""
        return cls.of(_read(path))

    @classmethod
    def of(cls, text: bytes) -> KeyFile:
        """Reads a file's text. Raises KeyFileError."""
        if _is_pem(text):
            raise KeyFileError(ONE_KEY_IS_NOT_ENOUGH)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first: Any = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "top"
            raise KeyFileError(f"this is no key file (at '{place}': {first['msg']})") from None

    def key(self, keyid: str) -> PublicKey:
        """The key of that id. Raises UnusableKey for one that the file doesn't hold."""
        found = next((key for key in self.keys if key.keyid == keyid), None)
        if found is None:
            known = ", ".join(short(key.keyid) for key in self.keys) or "none"
            raise UnusableKey(f"it is signed by key {short(keyid)}, which isn't in the key file (known: {known})")
        return found


def load_keys(path: Path) -> KeyFile | PemKey:
    """Reads a service's key file, or one public key in PEM. Raises KeyFileError."""
    text = _read(path)
    return PemKey.of(text) if _is_pem(text) else KeyFile.of(text)


def _is_pem(text: bytes) -> bool:
    return text.lstrip().startswith(b"-----BEGIN")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"the key file can't be read: {error.strerror}") from None
