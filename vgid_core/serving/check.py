"""Checks whether the forgetting arrives at a server's users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import PairSet
from vgid_core.data.sampling import even_sample
from vgid_core.serving.endpoint import Endpoint
from vgid_core.serving.evidence import AdapterEvidence
from vgid_core.serving.judgement import Finding, Verdict, judge, verdict_of
from vgid_core.serving.survey import Show, Survey, survey

CHECK_FORMAT = "vgid-serving-check/1"
# Each is asked six or seven times, one after another.
MAX_FACTS = 30


@dataclass(frozen=True)
class AskedSet:
    """A set, and the facts of it that may be asked."""

    pairs: PairSet
    facts: Sequence[Fact] = field(repr=False)

    @property
    def drawn(self) -> list[Fact]:
        """At most MAX_FACTS of the facts, evenly drawn."""
        return even_sample(self.facts, MAX_FACTS)

    def as_json(self) -> dict[str, Any]:
        """The whole set's digest and size."""
        return {"digest": self.pairs.digest, "pairs": len(self.pairs)}


@dataclass(frozen=True)
class ServingCheck:
    """The result of a check. control: people who must stay known, if somebody asked for them."""

    endpoint: str
    pairs: AskedSet
    control: AskedSet | None
    evidence: AdapterEvidence | None
    survey: Survey
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether the forgetting arrives."""
        return verdict_of(self.findings)

    def as_json(self) -> dict[str, Any]:
        """The result in JSON types, as it can be signed. It holds no photo, no question and no answer."""
        return {
            "format": CHECK_FORMAT,
            "verdict": self.verdict,
            "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "endpoint": self.endpoint,
            "adapter": {
                "name": self.survey.adapter,
                "sha256": None if self.evidence is None else self.evidence.digest,
            },
            "base": self.survey.base,
            "pairs": self.pairs.as_json(),
            "control": None if self.control is None else self.control.as_json(),
            "figures": self.survey.figures(),
            "findings": [asdict(finding) for finding in self.findings],
            "versions": {"vgid": version("vgid")},
            "not_shown": "The answers of one moment to these questions, greedily, from whichever replica took them. "
            "Sampled answers, other questions and other names aren't asked.",
        }


def check_serving(
    endpoint: Endpoint,
    adapter: str,
    base: str | None,
    pairs: AskedSet,
    control: AskedSet | None,
    evidence: AdapterEvidence | None,
    reload: bool,
    show: Show,
) -> ServingCheck:
    """Asks the server about at most MAX_FACTS facts of each set, and judges its answers.

    base, reload: as for `survey`. show: called with the current stage. Raises EndpointError and DataError.
    """
    others = [] if control is None else control.drawn
    found = survey(endpoint, adapter, base, pairs.drawn, others, reload, show)
    return ServingCheck(endpoint.url, pairs, control, evidence, found, judge(found, evidence, pairs.pairs))
