"""/evaluations: jobs that measure an adapter, or a model alone. They are as jobs that forget, without a training."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response

from api.openapi import problem_responses
from api.problems import (
    EvidenceUnavailable,
    InvalidRequest,
    JobAlreadyEnded,
    NotFound,
    ReceiptUnavailable,
    Unauthenticated,
)
from api.routes import reading
from api.routes.queries import ListQuery
from api.routes.reading import SubjectReference
from api.routes.taking import IdempotencyKey, documented, take
from api.routing import Router
from api.schemas import EvaluationRequest
from api.services import CallerDep
from api.views.job import JobList, JobView, SignedEnvelope
from api.views.measured import MetricList
from jobs.states import Kind

router = Router(prefix="/evaluations", tags=["evaluations"])


_OPERATIONS = (
    "get_evaluation",
    "get_evaluation_metrics",
    "get_evaluation_events",
    "cancel_evaluation",
    "get_evaluation_receipt",
)


@router.post(
    "",
    operation_id="submit_evaluation",
    summary="Ask for an evaluation",
    **documented(EvaluationRequest, "evaluation_id", _OPERATIONS),
)
async def submit_evaluation(
    request: Request, response: Response, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Pairs that an adapter, or the model alone, is asked by all audits, without a training. JSON or multipart."""
    return await take(request, response, caller, idempotency_key, EvaluationRequest)


@router.get(
    "",
    operation_id="list_evaluations",
    summary="List your evaluations",
    responses=problem_responses(Unauthenticated, InvalidRequest),
)
def list_evaluations(
    caller: CallerDep, query: Annotated[ListQuery, Query()], subject_reference: SubjectReference = None
) -> JobList:
    """Newest first, or as `sort` says. For the next page, pass `next_cursor` on as `cursor`, with the same filters."""
    return reading.job_list(caller, Kind.evaluate, query, subject_reference)


@router.get(
    "/{evaluation_id:uuid}",
    operation_id="get_evaluation",
    summary="Look at an evaluation",
    response_model=JobView,
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_evaluation(caller: CallerDep, evaluation_id: UUID) -> Response:
    """State, place in the queue, phase, progress, estimated start or finish, measurements and outcome."""
    return reading.job_json(caller, evaluation_id, Kind.evaluate)


@router.get(
    "/{evaluation_id:uuid}/metrics",
    operation_id="get_evaluation_metrics",
    summary="What was measured",
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_evaluation_metrics(caller: CallerDep, evaluation_id: UUID) -> MetricList:
    """Every figure of the model alone, and with the adapter; empty until the first ones are known."""
    return reading.metric_list(caller, evaluation_id, Kind.evaluate)


@router.get(
    "/{evaluation_id:uuid}/evidence",
    operation_id="get_evaluation_evidence",
    summary="What the audits found",
    responses=problem_responses(Unauthenticated, NotFound, EvidenceUnavailable),
)
def get_evaluation_evidence(caller: CallerDep, evaluation_id: UUID) -> dict[str, Any]:
    """Every figure with its interval and control, the verdict and its limits, and the digests of what was measured."""
    return reading.evidence(caller, evaluation_id, Kind.evaluate)


@router.get(
    "/{evaluation_id:uuid}/receipt",
    operation_id="get_evaluation_receipt",
    summary="Get the deletion receipt",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_evaluation_receipt(caller: CallerDep, evaluation_id: UUID) -> SignedEnvelope:
    """A signed statement of what of the evaluation was deleted when. `vgid verify` checks it."""
    return reading.receipt(caller, evaluation_id, Kind.evaluate)


@router.post(
    "/{evaluation_id:uuid}/cancel",
    operation_id="cancel_evaluation",
    summary="Cancel an evaluation",
    response_description="Cancelled",
    responses={
        202: {"model": JobView, "description": "The running job has been asked to stop"},
        **problem_responses(Unauthenticated, NotFound, JobAlreadyEnded),
    },
)
def cancel_evaluation(caller: CallerDep, evaluation_id: UUID, response: Response) -> JobView:
    """A queued job is cancelled at once, a running one within seconds. Asking again changes nothing."""
    return reading.cancel_job(caller, evaluation_id, Kind.evaluate, response)
