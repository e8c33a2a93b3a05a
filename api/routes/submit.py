"""POST /unlearn-jobs: the route that takes a forget request."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID, uuid4

import anyio.to_thread
from fastapi import APIRouter, Header, Request, Response, status
from sqlalchemy.exc import SQLAlchemyError

from api.forget_requests.checking import check_in_process
from api.forget_requests.request_check import CheckLimits, UncheckedRequest, canonical_text_of, check_request
from api.forget_requests.spool import Spool, SpooledBody
from api.forget_requests.submit_service import Submission, is_known, replayed_job, submit_job
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
from api.services import CallerDep, Services
from api.views import JobView, job_path
from jobs import repository
from jobs.forecast import Forecast, forecast
from jobs.tables import Job

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
    job, replayed = await _take(request, services, client_id, idempotency_key)
    request.state.job_id = job.id  # for the log line of the middleware
    response.headers["Location"] = job_path(job.id)
    response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if not replayed:
        return await anyio.to_thread.run_sync(_new_job_view, services, job)
    response.headers["Idempotency-Replayed"] = "true"
    return await anyio.to_thread.run_sync(job_view, caller, job.id)


async def _take(request: Request, services: Services, client_id: UUID, idempotency_key: str | None) -> tuple[Job, bool]:
    """Receives the body, checks it in its turn, and submits it. Leaves no file behind but the job's inputs."""
    settings, blobs = services.settings, services.blobs
    job_id = uuid4()
    data_key, wrapped_data_key = services.keyring.new_data_key(job_id)
    sealed, spool = blobs.scratch_file(), Spool(blobs.scratch_file())
    try:
        body = await _receive(request, spool, settings.max_body_bytes)
        content_type = request.headers.get("content-type", "")
        limits = CheckLimits.of(settings)
        unchecked = UncheckedRequest(
            content_type, body, limits, services.catalog, data_key, sealed, blobs.scratch_file()
        )
        # A request is answered again even if its model has left the catalog since.
        if idempotency_key is not None and await anyio.to_thread.run_sync(
            is_known, services, client_id, idempotency_key
        ):
            async with services.checks.turn(client_id):
                canonical = await check_in_process(canonical_text_of, unchecked, request, settings.check_seconds)
            return await anyio.to_thread.run_sync(replayed_job, services, client_id, idempotency_key, canonical), True
        async with services.checks.turn(client_id):
            checked = await check_in_process(check_request, unchecked, request, settings.check_seconds)
        await anyio.to_thread.run_sync(_check_priority, services, client_id, checked.request.priority)
        submission = Submission(job_id, client_id, idempotency_key, checked, sealed, wrapped_data_key)
        return await anyio.to_thread.run_sync(submit_job, services, submission)
    finally:
        spool.close()
        sealed.unlink(missing_ok=True)


def _check_priority(services: Services, client_id: UUID, priority: int) -> None:
    """Raises InvalidRequest for a higher priority than the client has a right to."""
    with services.read_sessions() as s:
        most = repository.client_limits(s, client_id).max_priority
    if priority > most:
        raise InvalidRequest.of([FieldError(f"may be at most {most} for this client", ("priority",))])


def _new_job_view(services: Services, job: Job) -> JobView:
    """The view of a job that was just committed. It is accepted, so it is answered for even if nothing can be read."""
    try:
        with services.read_sessions() as s:
            expected = forecast(s, job)
    except SQLAlchemyError:
        expected = Forecast()
    return JobView.of(job, services.settings.max_attempts, forecast=expected)


async def _receive(request: Request, spool: Spool, max_bytes: int) -> SpooledBody:
    """Receives the body. Raises BodyTooLarge as soon as more than `max_bytes` are announced or have arrived.

    Starlette's own limit (`max_body_size`) isn't used: it answers in plain text, and before the key is checked.
    """
    refusal = BodyTooLarge(f"The body may have at most {max_bytes} bytes.")
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise refusal
    async for chunk in request.stream():
        if spool.size + len(chunk) > max_bytes:
            raise refusal
        spool.write(chunk)
    return spool.finish()
