"""Signs in-toto statements in DSSE envelopes. Whatever signs a statement does it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf import json_format
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from vgid_verify.names import PAYLOAD_TYPE


class UnusableSigningKey(Exception):
    """The file holds no key that signs statements. The message says why."""


def read_signer(path: Path) -> CryptoSigner:
    """The Ed25519 key of a file in PEM. Raises OSError if it can't be read, UnusableSigningKey if it is another."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except TypeError:
        raise UnusableSigningKey("it is locked with a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableSigningKey("it holds no private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableSigningKey("it isn't an Ed25519 key")
    return CryptoSigner(key)


def sign_statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any], signer: CryptoSigner
) -> dict[str, Any]:
    """The envelope in JSON types. subjects: sha256 by name, in hex. Raises ValueError for an incomplete statement."""
    statement = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    # The library checks the statement and doesn't write it: its messages hold every number as a float.
    Statement.copy_from_pb(json_format.ParseDict(statement, StatementMessage())).validate()
    payload = json.dumps(statement, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    signed: dict[str, Any] = envelope.to_dict()
    return signed
