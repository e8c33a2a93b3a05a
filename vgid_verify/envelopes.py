"""Reads DSSE envelopes, checks their signatures, and gives the in-toto statements in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError

from vgid_verify.keys import Keys, StatementKey, UnusableKey
from vgid_verify.names import PAYLOAD_TYPE, SIGNED_AT
from vgid_verify.text import moment, short


class Unverified(Exception):
    """Something doesn't hold. The message says what, on one line."""


@dataclass(frozen=True)
class Signed:
    """A statement whose signature holds.

    subjects: sha256 by name, in hex. key: the one that signed it, valid at `signed_at`.
    """

    predicate_type: str
    subjects: dict[str, str]
    predicate: dict[str, Any] = field(repr=False)
    signed_at: datetime
    key: StatementKey

    @property
    def about(self) -> str:
        """When it was signed, by which key, and what to know of that."""
        about = f"signed at {moment(self.signed_at)} by key {short(self.key.keyid)}"
        return ", ".join(filter(None, (about, self.key.note)))


def open_envelope(text: str, keys: Keys) -> Signed:
    """Checks one envelope and the statement in it. Raises Unverified."""
    envelope = _parse(text)
    key = _check_signature(envelope, keys)
    statement = _statement_in(envelope)
    try:
        signed_at = datetime.fromisoformat(statement["predicate"][SIGNED_AT])
        key.require_valid_at(signed_at)
    except (KeyError, TypeError, ValueError):
        raise Unverified("a statement doesn't say when it was signed") from None
    except UnusableKey as error:
        raise Unverified(str(error)) from None
    try:
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    except KeyError:
        raise Unverified("a statement's subject has no name or no sha256") from None
    return Signed(statement["predicateType"], subjects, statement["predicate"], signed_at, key)


def _parse(text: str) -> Envelope:
    try:
        envelope = Envelope.from_dict(json.loads(text))
    except Exception:  # of whatever type: the bytes are an unseen person's
        raise Unverified("this is no DSSE envelope") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Unverified(f"the envelope's payload isn't {PAYLOAD_TYPE}")
    return envelope


def _check_signature(envelope: Envelope, keys: Keys) -> StatementKey:
    if len(envelope.signatures) != 1:
        raise Unverified(f"an envelope has {len(envelope.signatures)} signatures, where one belongs")
    (keyid,) = envelope.signatures
    try:
        key = keys.key(keyid)
        envelope.verify([key.statement_key()], 1)
    except UnusableKey as error:
        raise Unverified(str(error)) from None
    except VerificationError:
        raise Unverified("the signature doesn't belong to the payload: one of them was changed") from None
    return key


def _statement_in(envelope: Envelope) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(envelope.payload)
        Statement.copy_from_pb(json_format.ParseDict(document, StatementMessage())).validate()
    except (ValueError, json_format.ParseError):
        raise Unverified("the payload is no in-toto statement") from None
    return document
