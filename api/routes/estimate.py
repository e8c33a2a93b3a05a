"""POST /unlearn-jobs/estimate: what a forget request would be, with nothing stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self
from uuid import UUID, uuid4

from anyio.to_thread import run_sync as to_thread
from fastapi import Request
from pydantic import BaseModel, Field

from api.forget_requests.estimate import REGISTERED_PAIRS, RequestEstimate, estimate_request
from api.forget_requests.receiving import checked_in_turn, received
from api.openapi import problem_responses, submission_body
from api.problems import (
    BodyTooLarge,
    InvalidRequest,
    MalformedRequest,
    QuotaExceeded,
    Unauthenticated,
    UnsupportedMediaType,
)
from api.request_rules import valid_client
from api.routing import Router
from api.schemas import SubmitRequest
from api.services import CallerDep, Services
from jobs.queueing.durations import expected_seconds
from jobs.queueing.forecast import Forecast, forecast
from jobs.states import Kind
from jobs.tables import Job

router = Router(tags=["jobs"])

_NO_KEY = bytes(32)  # nothing is sealed


class FindingView(BaseModel):
    """One kind of thing to look at, and where it is. No finding repeats what a pair holds."""

    level: Literal["error", "warning"]
    kind: str = Field(description="`duplicate`, `leaked-answer`, `similar-image`, ...: docs/reference/data.md")
    message: str
    places: list[str] = Field(description="such as `retain[3].image`")


class LengthsView(BaseModel):
    """Smallest, median and largest length."""

    smallest: int
    median: float
    largest: int


class EstimateView(BaseModel):
    """What a request would be."""

    model: str
    retain_set: str | None = Field(description="the registered set that would be used")
    forget_pairs: int
    retain_pairs: int | None
    probes: dict[str, int]
    steps: int = Field(description="of training, unless it may end early")
    expected_seconds: float | None = Field(
        description="from its start to its end, by its steps at the default batch sizes, its pairs and the model's "
        "last jobs; null if there are none"
    )
    queue_position: int | None = Field(description="as things stand, 1 being the next")
    estimated_start_at: datetime | None = Field(description="null while nothing is known to tell it by")
    unit: Literal["tokens", "characters"] = Field(description="of lengths: tokens where the model's files tell them")
    questions: LengthsView | None = Field(description="of the forget set")
    answers: LengthsView | None = Field(description="of the forget set")
    findings: list[FindingView] = Field(
        description=f"of the request's sets, and of the first {REGISTERED_PAIRS} pairs of a registered retain set, or "
        f"fewer of large images"
    )

    @classmethod
    def of(cls, estimate: RequestEstimate, expected: Forecast, seconds: float | None) -> Self:
        """The view of an estimate, of its place in the queue, and of how long such jobs take."""
        checked, report = estimate.checked, estimate.report
        forget = next(one for one in report["sets"] if one["name"] == "forget")
        return cls(
            model=checked.model,
            retain_set=checked.retain_set,
            forget_pairs=checked.forget_pairs,
            retain_pairs=checked.retain_pairs,
            probes=dict(checked.probes),
            steps=checked.steps,
            expected_seconds=seconds,
            queue_position=expected.position,
            estimated_start_at=expected.starts_at,
            unit=report["unit"],
            questions=forget["questions"],
            answers=forget["answers"],
            findings=report["findings"],
        )


@router.post(
    "/unlearn-jobs/estimate",
    operation_id="estimate_job",
    summary="What a forget request would be",
    responses=problem_responses(
        MalformedRequest, Unauthenticated, BodyTooLarge, UnsupportedMediaType, InvalidRequest, QuotaExceeded
    ),
    openapi_extra=submission_body(SubmitRequest),
)
async def estimate(request: Request, caller: CallerDep) -> EstimateView:
    """Checks a request as filing it would, then its data: nothing is stored, and no job is made.

    JPEGs are decoded at a fraction of their size. One that is damaged within may pass here and be refused when filed.
    """
    services, client = caller.services, await valid_client(caller)
    async with received(request, services, client, _NO_KEY, SubmitRequest) as unchecked:
        found = await checked_in_turn(request, services, client, estimate_request, unchecked)
    return await to_thread(_view, services, client.id, found)


def _view(services: Services, client_id: UUID, estimate: RequestEstimate) -> EstimateView:
    """The view with what the ledger says of such a job, which isn't stored."""
    asked = estimate.checked
    job = Job(
        id=uuid4(),
        client_id=client_id,
        kind=Kind.unlearn,
        model=asked.model,
        line=services.line_of(asked.model, client_id),
        created_at=datetime.now(UTC),
        due_at=asked.request.due_at,
        priority=asked.request.priority,
    )
    with services.read_sessions() as s:
        seconds = expected_seconds(s, asked.model, asked.weighed_steps, asked.forget_pairs)
        return EstimateView.of(estimate, forecast(s, job), seconds)
