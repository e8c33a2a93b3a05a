"""POST /unlearn-jobs: the route that takes a forget request."""

from __future__ import annotations

from fastapi import Request, Response

from api.routes.taking import IdempotencyKey, documented, take
from api.routing import Router
from api.schemas import SubmitRequest
from api.services import CallerDep
from api.views.job import JobView

router = Router(tags=["jobs"])

_OPERATIONS = ("get_job", "get_metrics", "get_events", "cancel_job", "download_artifact", "get_receipt")


@router.post(
    "/unlearn-jobs",
    operation_id="submit_job",
    summary="File a forget request",
    **documented(SubmitRequest, "job_id", _OPERATIONS),
)
async def submit(
    request: Request, response: Response, caller: CallerDep, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Pairs of image, question and answer that a model is to forget. JSON with base64 images, or multipart."""
    return await take(request, response, caller, idempotency_key, SubmitRequest)
