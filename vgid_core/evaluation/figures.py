"""What audits find: figures with intervals and controls. Doesn't import torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vgid_core.evaluation.estimates import Estimate


class NotMeasured(Exception):
    """An audit can't be made of this model or on this machine. The message says why, in words for its user."""


@dataclass(frozen=True)
class Control:
    """The same figure where nothing can be known. of: whose it is, in words."""

    of: str
    value: float
    low: float
    high: float

    @classmethod
    def measured(cls, of: str, estimate: Estimate) -> Control:
        """A control that was measured, too."""
        return cls(of, estimate.value, estimate.low, estimate.high)

    @classmethod
    def chance(cls, value: float) -> Control:
        """What guessing gives."""
        return cls("chance", value, value, value)


@dataclass(frozen=True)
class Figure:
    """One figure of an audit. name: `audit.figure`, or the audit's own name. of: the set that it is about.

    before: the base's, where it was measured. reference_model: that of a model trained without the forget set, where
    there is one.
    """

    name: str
    of: str
    estimate: Estimate
    control: Control | None = None
    before: float | None = None
    reference_model: float | None = None

    @property
    def audit(self) -> str:
        """The audit that found it."""
        return self.name.partition(".")[0]

    @property
    def value(self) -> float:
        """The figure itself."""
        return self.estimate.value

    def as_json(self) -> dict[str, Any]:
        """The figure in JSON types."""
        return {
            "audit": self.audit,
            "figure": self.name,
            "set": self.of,
            **asdict(self.estimate),
            "control": None if self.control is None else asdict(self.control),
            "before": self.before,
            "reference_model": self.reference_model,
        }
