"""POST /unlearn-jobs and POST /evaluations: the routes that take requests."""

from __future__ import annotations

from fastapi import Request, Response

from api.problems import AlreadyForgotten
from api.routes.taking import IdempotencyKey, documented, take
from api.routing import Router
from api.schemas import EvaluationRequest, SubmitRequest
from api.services import CallerDep
from api.views.job import JOBS_PATHS, JobView
from jobs.states import Kind

router = Router()

_OF_A_JOB = ("get_job", "get_metrics", "get_events", "cancel_job", "download_artifact", "get_receipt")
_OF_AN_EVALUATION = (
    "get_evaluation",
    "get_evaluation_metrics",
    "get_evaluation_events",
    "cancel_evaluation",
    "get_evaluation_receipt",
)


@router.post(
    JOBS_PATHS[Kind.unlearn],
    operation_id="submit_job",
    summary="File a forget request",
    tags=["jobs"],
    **documented(SubmitRequest, _OF_A_JOB, AlreadyForgotten),
)
async def submit(
    request: Request, response: Response, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Pairs of image, question and answer that a model is to forget. JSON with base64 images, or multipart."""
    return await take(request, response, caller, idempotency_key, SubmitRequest)


@router.post(
    JOBS_PATHS[Kind.evaluate],
    operation_id="submit_evaluation",
    summary="Ask for an evaluation",
    tags=["evaluations"],
    **documented(EvaluationRequest, _OF_AN_EVALUATION),
)
async def submit_evaluation(
    request: Request, response: Response, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Pairs that an adapter, or the model alone, is asked by all audits, without a training. JSON or multipart."""
    return await take(request, response, caller, idempotency_key, EvaluationRequest)
