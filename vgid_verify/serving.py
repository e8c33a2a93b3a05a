"""Verifies the signed check of a server: whether the forgetting arrives at its users. It also says how one is named."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from vgid_verify.envelopes import Signed, Unverified, open_envelope
from vgid_verify.keys import Keys
from vgid_verify.names import SERVING_CHECK, TEST_RESULT
from vgid_verify.report import Check

NOT_SHOWN = (
    "That these were the answers. Whoever holds the key asked the server; ask it again with pairs of your own.",
    "That it is so now, or everywhere. Another replica, a reload or an update may answer otherwise.",
    "That the server has the adapter's very file. It was asked by a name; the sha256 is of the asker's own copy.",
    "Whom it is about. The pairs are named by keyed digests, which only the salt's holder can open.",
    "Whose key it is, and when it was. You trust the keys that you gave; the time is the signer's own.",
)
# What the Test Result says for each verdict. A warning would be read as passed.
RESULTS = {"arrives": "PASSED", "does-not-arrive": "FAILED", "inconclusive": "FAILED"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class AskedSet(_Part):
    """A set of pairs: its keyed digest in hex, and its size."""

    digest: str = Field(alias="hmac-sha256")
    pairs: int


class ServedAdapter(_Part):
    """The name that was asked. sha256: of the asker's own copy of the weights, in hex, where there was one."""

    name: str
    sha256: str | None


class Answers(_Part):
    """Counts of one way to ask. rouge_l: mean against the true answers."""

    asked: int
    answered: int
    told: int
    rouge_l: float | None


class Finding(_Part):
    """What was seen, and what to do about it."""

    kind: str
    level: Literal["fault", "warning", "ok", "untested"]
    message: str
    advice: str


class ServingCheck(_Part):
    """What `vgid verify-serving` found. figures: by the way that was asked."""

    format: Literal["vgid-serving-check/1"]
    verdict: Literal["arrives", "does-not-arrive", "inconclusive"]
    checked_at: AwareDatetime
    endpoint: str
    adapter: ServedAdapter
    base: str | None
    pairs: AskedSet
    control: AskedSet | None
    figures: dict[str, Answers]
    findings: tuple[Finding, ...]
    not_shown: str


@dataclass(frozen=True)
class ServingReport:
    """What a signed check says. keyid, signed_at, check: empty unless the signature holds."""

    checks: tuple[Check, ...]
    keyid: str = ""
    signed_at: datetime | None = None
    check: ServingCheck | None = None

    @property
    def holds(self) -> bool:
        """Whether the signature is right. It says nothing about the verdict."""
        return all(check.held for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether it holds and its verdict is that the forgetting arrives."""
        return self.holds and self.check is not None and self.check.verdict == "arrives"

    @property
    def set_digests(self) -> dict[str, str]:
        """Each set's keyed digest by the set's name: pairs, control."""
        sets = {} if self.check is None else {"pairs": self.check.pairs, "control": self.check.control}
        return {name: asked.digest for name, asked in sets.items() if asked is not None}

    @property
    def not_shown(self) -> tuple[str, ...]:
        """What the statement doesn't show, the signer's own words last."""
        return NOT_SHOWN if self.check is None else (*NOT_SHOWN, self.check.not_shown)

    def as_json(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {
            "holds": self.holds,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "keyid": self.keyid,
            "signed_at": self.signed_at and self.signed_at.isoformat(),
            "check": self.check and self.check.model_dump(mode="json", by_alias=True),
            "not_shown": list(self.not_shown),
        }


def served_subject(endpoint: str, adapter: str, sha256: str | None) -> dict[str, str]:
    """A check's subject, sha256 by name: the adapter's weights as in its folder, else endpoint and name."""
    if sha256 is not None:
        return {"adapter_model.safetensors": sha256}
    served = f"urn:vgid:served:{quote(endpoint, safe='')}:{quote(adapter, safe='')}"
    return {served: hashlib.sha256(served.encode()).hexdigest()}


def is_serving_check(path: Path) -> bool:
    """Whether the file calls itself the check of a server. Nothing is checked. Raises OSError."""
    try:
        payload = base64.b64decode(json.loads(path.read_bytes())["payload"])
        return SERVING_CHECK in json.loads(payload)["predicate"]
    except (ValueError, KeyError, TypeError):
        return False


def verify_serving_check(path: Path, keys: Keys) -> ServingReport:
    """Verifies the signed check in a file, offline. Raises OSError for a file that can't be read."""
    try:
        signed = open_envelope(path.read_text(encoding="utf-8", errors="replace"), keys)
        found = _check_in(signed)
    except Unverified as error:
        return ServingReport((Check("statement", held=False, detail=str(error)),))
    checks = (Check("statement", held=True, detail=signed.about),)
    return ServingReport(checks, signed.key.keyid, signed.signed_at, found)


def _check_in(signed: Signed) -> ServingCheck:
    """Raises Unverified for another statement, and for one that contradicts itself."""
    if signed.predicate_type != TEST_RESULT or SERVING_CHECK not in signed.predicate:
        raise Unverified("it is a signed statement, but no check of a server")
    try:
        found = ServingCheck.model_validate(signed.predicate[SERVING_CHECK])
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise Unverified(f"the check in it can't be read (at '{place}')") from None
    if signed.subjects != served_subject(found.endpoint, found.adapter.name, found.adapter.sha256):
        raise Unverified("its subject isn't the adapter that it names")
    if signed.predicate.get("result") != RESULTS[found.verdict]:
        raise Unverified("its result isn't that of its verdict")
    return found
