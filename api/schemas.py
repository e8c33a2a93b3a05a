"""The shapes of what a client sends, and what is refused.

Refused are unknown fields, NUL in any text, and blank texts (but as a value in `metadata`). Texts of one line have
rules of their own (`api.identifiers`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.identifiers import Instant, Line, Metadata, Reference, check_not_blank
from jobs.clients.limits import MAX_PRIORITY, MAX_REPLAY_DAYS
from jobs.states import Kind
from vgid_core.config import TrainingOverrides
from vgid_core.data.pairs import RESERVED_NAMES

_MAX_PROBES = 4
_PROBE_NAME = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
# Event ids are signed 64-bit integers in Postgres.
_MAX_EVENT_ID = 2**63 - 1


def _check_text(value: str) -> str:
    check_not_blank(value)
    if "\0" in value:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    return value


def _check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise PydanticCustomError("no_pairs", "must hold at least one pair")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Question = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_check_text)]
Fact = Annotated[str, StringConstraints(max_length=500), AfterValidator(_check_text)]
Answer = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_check_text)]
Share = Annotated[float, Field(ge=0, le=1)]
AuditLevel = Literal["quick", "standard", "full"]
EventId = Annotated[int, Field(ge=0, le=_MAX_EVENT_ID)]


class _Strict(BaseModel):
    # Neither repr nor errors may quote questions, answers and names.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__


class ImageSource(_Strict):
    """An image, as base64 text or, in a multipart request, as the name of the part that holds its bytes."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["base64"]}, {"required": ["file"]}]},
    )

    base64: str | None = Field(
        default=None, description="a JPEG, PNG or WebP in standard base64 (an operator can allow others)"
    )
    file: str | None = Field(default=None, max_length=255, description="name of a part of this multipart request")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.base64 is None) == (self.file is None):
            raise PydanticCustomError("image", "needs exactly one of 'base64' and 'file'")
        return self


class SubmittedPair(_Strict):
    """An image, a question about it and the answer that the model gives today."""

    image: ImageSource
    question: Question
    answer: Answer
    person: Line | None = Field(
        default=None, description="whom it is about, as answers name them: audits count by people and ask by this name"
    )
    fact: Fact | None = Field(
        default=None, description="the part of the answer that must not come back; its second half if left out"
    )

    @field_validator("fact")
    @classmethod
    def _in_the_answer(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value not in info.data.get("answer", value):
            raise PydanticCustomError("fact", "isn't part of the answer")
        return value


# A validator that runs after the pairs' own, because `min_length` would call a set empty when all its pairs are faulty.
Pairs = Annotated[tuple[SubmittedPair, ...], AfterValidator(_check_not_empty), Field(json_schema_extra={"minItems": 1})]
ProbeName = Annotated[str, StringConstraints(pattern=_PROBE_NAME.pattern)]


def is_probe_name(name: str) -> bool:
    """Whether the name follows the rule for probes. Other names may not be quoted: they could be a person's."""
    return _PROBE_NAME.fullmatch(name) is not None


class Training(TrainingOverrides):
    """The settings that a request changes of the model's own. `instruction` and `perturbation` belong to `vgid`."""

    @field_validator("instruction")
    @classmethod
    def _no_nul(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise PydanticCustomError("nul", "must not contain NUL characters")
        return value


class Targets(_Strict):
    """Targets of the verdict, each as in the model's settings under `verdict`. They can only be tightened."""

    generated: Share | None = None
    extraction: Share | None = None
    still_known: Share | None = None
    misattributed: Share | None = None
    prefilled: Share | None = None
    ranking: Share | None = None
    ranking_ends: Share | None = None
    membership: Share | None = None
    relearning: Share | None = None
    prompts: Share | None = None
    utility_drop: Share | None = None
    neighbour_drop: Share | None = None
    earlier: Share | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that are set."""
        return self.model_dump(exclude_none=True)


class JobRequest(_Strict):
    """What requests of every kind hold. Texts and images are kept encrypted until the job has ended, then deleted."""

    kind: ClassVar[Kind]

    model: Name = Field(description="one of GET /models")
    forget: Pairs = Field(description="what the model must no longer say")
    retain: Pairs | None = Field(default=None, description="what it must still say, besides the retain set")
    retain_set: Name | None = Field(
        default=None, description="a retain set registered for the model; the only one is taken when none is named"
    )
    probes: Annotated[dict[ProbeName, Pairs], Field(max_length=_MAX_PROBES)] = Field(
        default_factory=dict, description="measured before and after, never trained on"
    )
    targets: Targets = Field(default=Targets(), description="what the verdict must hold, where it is stricter")
    audits: AuditLevel | None = Field(default=None, description="a higher level than the model's own")
    external_id: Line | None = Field(default=None, description="your number for the request; kept and searchable")
    subject_reference: Reference | None = Field(
        default=None, description="whose data it is; kept as a keyed hash only (searchable, not readable)"
    )
    legal_basis: Line | None = Field(default=None, description="for example `GDPR Art. 17(1)(b)`")
    due_at: Instant | None = Field(
        default=None, description="deadline, with its time zone; before the filing it counts as that"
    )
    priority: int = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="the highest goes first, after what is due within 72 hours; your client may be held to a lower one",
    )
    metadata: Metadata = Field(default_factory=dict, description="kept as it is: no personal data, please")

    @field_validator("probes")
    @classmethod
    def _no_reserved_probe(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(RESERVED_NAMES & value.keys()):
            raise PydanticCustomError("probes", f"can't name a probe {', '.join(taken)}")
        return value


class SubmitRequest(JobRequest):
    """A forget request. Texts and images are kept encrypted until the job has ended, then deleted."""

    kind = Kind.unlearn

    training: Training = Field(default=Training(), description="what differs from the model's own")
    replay_days: int | None = Field(
        default=None,
        ge=0,
        le=MAX_REPLAY_DAYS,
        description="how long a photo of each person with at most five of its questions is kept, sealed, so that later "
        "requests forget them again and check them; 0 keeps nothing; your client's own if left out",
    )
    replay_whole: bool = Field(
        default=False,
        description="the replay set holds all pairs: only then can a rebuild from the base forget many "
        "people as well again; needs `replay_days`",
    )
    repeat: bool = Field(
        default=False, description="forget a subject again whom the model's current release has forgotten already"
    )

    @field_validator("replay_whole")
    @classmethod
    def _a_whole_replay_set_is_kept(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("replay_days"):
            raise PydanticCustomError(
                "replay_whole", "needs `replay_days` of at least 1: without it no replay set is kept"
            )
        return value


class EvaluationRequest(JobRequest):
    """What is to be measured, without a training. Texts and images are kept and deleted as a forget request's are."""

    kind = Kind.evaluate

    adapter_of: UUID | None = Field(
        default=None, description="your job whose adapter is measured; the model alone if left out"
    )
    release: bool = Field(
        default=False,
        description="the model's current release is measured: by photos of your own jobs that it holds, in `forget` "
        "and `probes`, and without `retain`; by any pairs with the right `audit`",
    )

    @field_validator("release")
    @classmethod
    def _one_artifact(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("adapter_of") is not None:
            raise PydanticCustomError("release", "takes either 'release' or 'adapter_of', not both")
        return value
