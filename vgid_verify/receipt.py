"""Verifies a deletion receipt: what of a job was deleted when, signed by the service."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vgid_verify.envelopes import Unverified, open_envelope
from vgid_verify.keys import Keys
from vgid_verify.names import DELETION_RECEIPT
from vgid_verify.report import Check

NOT_SHOWN = (
    "That no copy exists elsewhere. Backups of the database and of the disk are the operator's, as are your own files.",
    "That the service did as it says. Whoever holds the key signed its own record.",
    "That the model has forgotten. The statement in the adapter's folder is about that.",
)


@dataclass(frozen=True)
class ReceiptReport:
    """What a receipt says, if it holds. deleted: what was deleted, with the time and how. remains: what was not."""

    checks: tuple[Check, ...]
    job: str = ""
    state: str = ""
    deleted: tuple[dict[str, Any], ...] = ()
    remains: tuple[str, ...] = ()
    not_shown: tuple[str, ...] = field(default=NOT_SHOWN)

    @property
    def holds(self) -> bool:
        """Whether the signature is right."""
        return all(check.held for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {"holds": self.holds} | asdict(self)


def verify_receipt(path: Path, keys: Keys) -> ReceiptReport:
    """Checks the receipt in a file, offline. Raises OSError for a file that can't be read."""
    try:
        signed = open_envelope(path.read_text(encoding="utf-8", errors="replace"), keys)
        if signed.predicate_type != DELETION_RECEIPT:
            raise Unverified("it is a signed statement, but no deletion receipt")
        predicate = signed.predicate
        subject = f"urn:uuid:{predicate.get('job')}"
        if signed.subjects != {subject: hashlib.sha256(subject.encode()).hexdigest()}:
            raise Unverified("its subject isn't the job that it names")
    except Unverified as error:
        return ReceiptReport((Check("statement", held=False, detail=str(error)),))
    check = Check("statement", held=True, detail=signed.about)
    return ReceiptReport(
        (check,), predicate["job"], predicate["state"], tuple(predicate["deleted"]), tuple(predicate["remains"])
    )
