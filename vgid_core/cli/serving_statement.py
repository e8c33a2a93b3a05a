"""A check of a server as a signed statement, which `vgid verify` checks offline."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from vgid_core.data.pairs import DataError
from vgid_verify.names import KEYED_DIGEST, SERVING_CHECK, SET_PREFIX, SIGNED_AT, TEST_RESULT
from vgid_verify.proof import keyed_digest
from vgid_verify.serving import RESULTS, served_subject
from vgid_verify.signing import UnusableSigningKey, read_signer, sign_statement

_SALT_BYTES = 32
_SETS = ("pairs", "control")


@dataclass(frozen=True)
class StatementWriter:
    """Signs one check. path: where the statement goes."""

    signer: CryptoSigner
    path: Path

    @classmethod
    def of(cls, key: Path, path: Path) -> StatementWriter:
        """Reads the key, an Ed25519 one in PEM. Raises DataError naming the option that can't be followed."""
        if path.exists():
            raise DataError(f"{path} is there already", "--statement")
        if not os.access(path.parent, os.W_OK | os.X_OK) or not path.parent.is_dir():
            raise DataError(f"{path} can't be written: {path.parent} is no folder that takes files", "--statement")
        try:
            return cls(read_signer(key), path)
        except OSError as error:
            raise DataError(f"{key} can't be read ({error.strerror})", "--sign-key") from None
        except UnusableSigningKey as error:
            raise DataError(
                f"{key}: {error}; `openssl genpkey -algorithm ed25519 -out KEY.pem` makes one", "--sign-key"
            ) from None

    @property
    def keyid(self) -> str:
        """The key's id, as a verifier says it."""
        return str(self.signer.public_key.keyid)

    def write(self, check: Mapping[str, Any]) -> str:
        """Writes the statement of a check in JSON types. Returns its salt, in hex, which no file holds.

        Raises DataError if the file can't be written.
        """
        salt = secrets.token_bytes(_SALT_BYTES)
        adapter = check["adapter"]
        subjects = served_subject(check["endpoint"], adapter["name"], adapter["sha256"])
        envelope = sign_statement(subjects, TEST_RESULT, _predicate(check, salt), self.signer)
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(envelope) + "\n")
        except OSError as error:
            raise DataError(f"{self.path} can't be written ({error.strerror})", "--statement") from None
        return salt.hex()


def _predicate(check: Mapping[str, Any], salt: bytes) -> dict[str, Any]:
    """The check, with a keyed digest for each set's plain one, which would let anybody test guesses of the set."""
    sets = {
        name: {KEYED_DIGEST: keyed_digest(salt, f"set/{name}", check[name]["digest"]), "pairs": check[name]["pairs"]}
        for name in _SETS
        if check[name] is not None
    }
    return {
        "result": RESULTS[check["verdict"]],
        "configuration": [
            {"name": f"{SET_PREFIX}{name}", "digest": {KEYED_DIGEST: asked[KEYED_DIGEST]}}
            for name, asked in sets.items()
        ],
        "passedTests": _tests(check, "ok"),
        "warnedTests": _tests(check, "warning", "untested"),
        "failedTests": _tests(check, "fault"),
        SERVING_CHECK: {**check, **sets},
        SIGNED_AT: datetime.now(UTC).isoformat(),
    }


def _tests(check: Mapping[str, Any], *levels: str) -> list[str]:
    return [finding["kind"] for finding in check["findings"] if finding["level"] in levels]
