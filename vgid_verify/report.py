"""What a verification found, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from vgid_verify.names import (
    EVERY_REQUEST_PASSED,
    EVIDENCE,
    KEYED_DIGEST,
    LIMITS,
    MEASURED,
    PROVENANCE,
    RELEASE,
    REQUESTS,
    SET_PREFIX,
    TEST_RESULT,
)

# What no statement shows, whatever it says.
NOT_SHOWN = (
    "That nothing of the person is left. Weights can't show that: the figures say what was measured, and no more.",
    "That the figures are true. Whoever holds the key measured them; measure again with pairs of your own.",
    "That the adapter is applied where the model is served. The base without it knows what it knew before.",
    "Whom it is about. The forget set and the job are named by keyed digests, which only the salt's holder can open.",
    "Whose key it is. You trust the key file that you gave; where it came from is yours to judge.",
)
NOT_SHOWN_OF_RELEASE = (
    NOT_SHOWN[0],
    "Whom it holds, how many they are, and what was measured: each request's client has a statement of its own.",
    "That who was forgotten before this release is still forgotten: only those of whom a replay set is kept are "
    "asked again.",
    NOT_SHOWN[2],
    NOT_SHOWN[4],
)
NO_TIME = "That the times are right. They are the signer's own: no time stamp of somebody else was checked."


@dataclass(frozen=True)
class Check:
    """One thing that was checked. detail: what doesn't hold, or what to know of it."""

    name: str
    held: bool
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """Everything about one adapter folder.

    Fields besides `checks` are empty unless all signatures hold. evidence: the run's figures, targets and verdict; None
    where the run reached no verdict. measured: ROUGE-L and answer probability before and after.
    job_digest, set_digests: keyed, in hex. release: the statement of a release's folder, which has nothing of the
    above; None for a job's.
    """

    checks: tuple[Check, ...]
    keyid: str = ""
    signed_at: datetime | None = None
    stamped_at: datetime | None = None
    evidence: dict[str, Any] | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    release: dict[str, Any] | None = None

    @property
    def holds(self) -> bool:
        """Whether every signature and every digest is right. It says nothing about the verdict."""
        return all(check.held for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether the statement holds and says that all targets are met; of a release, for each of its requests."""
        if self.release is not None:
            return self.holds and EVERY_REQUEST_PASSED in self.release["properties"]
        return self.holds and self.evidence is not None and self.evidence.get("verdict", {}).get("passed") is True

    @property
    def outcome(self) -> str:
        """The verdict in a word; `no-verdict` where there is none, `unverified` where a check failed.

        Of a release whose requests have passed: `release`.
        """
        if not self.holds:
            return "unverified"
        if self.release is not None:
            return "release" if self.passed else "no-verdict"
        verdict = (self.evidence or {}).get("verdict", {})
        return str(verdict.get("outcome", "no-verdict"))

    @property
    def job_digest(self) -> str:
        """The job's keyed digest."""
        invocation = self.provenance.get("runDetails", {}).get("metadata", {}).get("invocationId", "")
        return str(invocation).removeprefix(f"{KEYED_DIGEST}:")

    @property
    def set_digests(self) -> dict[str, str]:
        """Each set's keyed digest by the set's name."""
        found = self.provenance.get("buildDefinition", {}).get("resolvedDependencies", [])
        return {
            item["name"].removeprefix(SET_PREFIX): item["digest"][KEYED_DIGEST]
            for item in found
            if item["name"].startswith(SET_PREFIX)
        }

    @property
    def of_others(self) -> dict[str, int]:
        """How many other requests the run has forgotten, by the kind of set."""
        internal = self.provenance.get("buildDefinition", {}).get("internalParameters", {})
        return dict(internal.get(REQUESTS, {}))

    @property
    def not_shown(self) -> tuple[str, ...]:
        """What the statement doesn't show."""
        not_shown = NOT_SHOWN if self.release is None else NOT_SHOWN_OF_RELEASE
        return not_shown if self.stamped_at is not None else (*not_shown, NO_TIME)

    def as_json(self) -> dict[str, Any]:
        """The report in JSON types."""
        times = {name: time and time.isoformat() for name, time in self._times().items()}
        own = {"holds": self.holds, "passed": self.passed, "outcome": self.outcome}
        return own | asdict(self) | times | {"not_shown": list(self.not_shown)}

    def _times(self) -> dict[str, datetime | None]:
        return {"signed_at": self.signed_at, "stamped_at": self.stamped_at}


def report_of(
    checks: tuple[Check, ...],
    keyid: str,
    signed_at: datetime,
    stamped_at: datetime | None,
    predicates: dict[str, dict[str, Any]],
) -> Report:
    """The report of a folder whose signatures hold. predicates: by type, of a job's folder or of a release's."""
    if RELEASE in predicates:
        return Report(checks, keyid, signed_at, stamped_at, release=predicates[RELEASE])
    test_result = predicates[TEST_RESULT]
    return Report(
        checks,
        keyid,
        signed_at,
        stamped_at,
        evidence=test_result.get(EVIDENCE),
        measured=test_result.get(MEASURED, {}),
        limits=tuple(test_result.get(LIMITS, ())),
        provenance=predicates[PROVENANCE],
    )
