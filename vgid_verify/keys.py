"""The public keys that a verifier trusts, in the form that a service shows at /.well-known/vgid-keys.json."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.signer import SSlibKey

from vgid_verify.text import moment, short


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


class PublicKey(BaseModel):
    """A signing key's public halves, and when its signatures count.

    statements: Ed25519, for statements and receipts. folders: ECDSA P-256, for Model Signing, which takes no Ed25519.
    """

    model_config = ConfigDict(frozen=True)

    keyid: str = Field(description="sha256 of the Ed25519 key's canonical JSON, in hex")
    statements: SchemeKey = Field(description="Ed25519: signs statements and receipts")
    folders: SchemeKey = Field(description="ECDSA P-256: signs adapter folders (OpenSSF Model Signing)")
    valid_from: AwareDatetime = Field(description="nothing was signed before")
    valid_until: AwareDatetime | None = Field(description="when it was retired; what it signed before still counts")
    revoked_at: AwareDatetime | None = Field(description="when it was revoked; nothing that it signed counts")

    def statement_key(self) -> SSlibKey:
        """The Ed25519 half. Raises UnusableKey if it isn't one."""
        if (self.statements.keytype, self.statements.scheme) != ("ed25519", "ed25519"):
            raise UnusableKey(f"key {short(self.keyid)} isn't an Ed25519 key")
        return SSlibKey(self.keyid, "ed25519", "ed25519", dict(self.statements.keyval))

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
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise KeyFileError(f"the key file can't be read: {error.strerror}") from None
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
