"""POST /unlearn-jobs: the route that takes a forget request."""

from __future__ import annotations

import re
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Header, Request, Response, status

from api.forget_requests.submit_service import submit_job
from api.openapi import problem_responses, submission_body
from api.problems import (
    BodyTooLarge,
    FieldError,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    RequestInFlight,
    Unauthenticated,
    UnsupportedMediaType,
)
from api.routes.jobs import job_view
from api.services import CallerDep
from api.views import JobView, job_path

router = APIRouter(tags=["jobs"])

_PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")
_RETRY_AFTER_SECONDS = 2


@router.post(
    "/unlearn-jobs",
    summary="File a forget request",
    status_code=status.HTTP_202_ACCEPTED,
    response_description="Accepted and stored: from here on no crash loses it",
    responses={
        202: {
            "headers": {
                "Location": {"description": "the job's path", "schema": {"type": "string"}},
                "Retry-After": {"description": "seconds until a look is worth it", "schema": {"type": "integer"}},
                "Idempotency-Replayed": {
                    "description": "`true` when an earlier request with this key made the job",
                    "schema": {"type": "string"},
                },
            }
        },
        **problem_responses(
            MalformedRequest, Unauthenticated, RequestInFlight, BodyTooLarge, UnsupportedMediaType, InvalidRequest,
            IdempotencyKeyReused,
        ),
    },
    openapi_extra=submission_body(),
)  # fmt: skip
async def submit(
    request: Request,
    response: Response,
    caller: CallerDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable ASCII characters; the same key and content give the same job",
        ),
    ] = None,
) -> JobView:
    """Pairs of image, question and answer that a model is to forget. JSON with base64 images, or multipart."""
    if idempotency_key is not None and not _PRINTABLE.fullmatch(idempotency_key):
        error = FieldError("takes 1 to 255 printable ASCII characters", name="Idempotency-Key")
        raise InvalidRequest.of([error])
    services, client_id = caller.services, await anyio.to_thread.run_sync(caller.client_id)
    content_type = request.headers.get("content-type", "")
    body = await _read_body(request, services.settings.max_body_bytes)
    job, replayed = await anyio.to_thread.run_sync(
        submit_job, services, client_id, idempotency_key, content_type, body, limiter=services.submissions
    )
    request.state.job_id = job.id  # for the log line of the middleware
    response.headers["Location"] = job_path(job.id)
    response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if not replayed:
        return JobView.of(job, services.settings.max_attempts)
    response.headers["Idempotency-Replayed"] = "true"
    return await anyio.to_thread.run_sync(job_view, caller, job.id)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Reads the body. Raises BodyTooLarge as soon as more than `max_bytes` are announced or have arrived.

    Starlette's own limit (`max_body_size`) isn't used: it answers in plain text, and before the key is checked.
    """
    refusal = BodyTooLarge(f"The body may have at most {max_bytes} bytes.")
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise refusal
    return bytes(body)
