"""Signs an in-toto statement in a DSSE envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope

from jobs.signing.keys import PrivateKey
from vgid_verify.names import PAYLOAD_TYPE


def sign_statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any], key: PrivateKey
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
    envelope.sign(key.statements)
    signed: dict[str, Any] = envelope.to_dict()
    return signed
