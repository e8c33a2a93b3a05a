"""Key pairs to sign and check by, without a database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner

from jobs.signing.keys import PrivateKey
from vgid_verify import KeyFile
from vgid_verify.keys import PublicKey, SchemeKey

NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Key:
    """A key pair, and its entry in a key file."""

    private: PrivateKey
    public: PublicKey

    @classmethod
    def make(cls, folder: Path, **times: datetime) -> Key:
        statements, folders = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa()
        path = folder / f"{statements.public_key.keyid}.pem"
        path.write_bytes(folders.private_bytes)
        public = PublicKey(
            keyid=statements.public_key.keyid,
            statements=SchemeKey(keytype="ed25519", scheme="ed25519", keyval=dict(statements.public_key.keyval)),
            folders=SchemeKey(keytype="ecdsa", scheme="ecdsa-sha2-nistp256", keyval=dict(folders.public_key.keyval)),
            valid_from=times.get("valid_from", NOW - DAY),
            valid_until=times.get("valid_until"),
            revoked_at=times.get("revoked_at"),
        )
        return cls(PrivateKey(public.keyid, statements, path), public)

    @property
    def pem(self) -> bytes:
        """The Ed25519 key's public half, as `openssl pkey -pubout` writes it."""
        private = load_pem_private_key(self.private.statements.private_bytes, None)
        return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def file(self) -> KeyFile:
        return KeyFile(keys=(self.public,))

    def write(self, path: Path) -> Path:
        """Writes the key file that an operator keeps."""
        path.write_text(self.file.model_dump_json(), encoding="utf-8")
        return path
