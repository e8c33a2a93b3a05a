"""Takes a request of either kind: from its headers and its body to the view of its job."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID, uuid4

from anyio.to_thread import run_sync as to_thread
from fastapi import Header, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from api.forget_requests.receiving import checked_in_turn, received
from api.forget_requests.request_check import canonical_text_of, check_request
from api.forget_requests.submit_service import (
    Submission,
    is_known,
    refuse_without_place,
    replayed_job,
    submit_job,
)
from api.limits.known_clients import KnownClient
from api.openapi import problem_responses, submission_body
from api.problems import (
    BodyTooLarge,
    FieldError,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    Problem,
    RequestInFlight,
    Unauthenticated,
    UnsupportedMediaType,
)
from api.request_rules import valid_client
from api.routes.reading import job_view
from api.schemas import JobRequest
from api.services import Caller, Services
from api.views.job import JobView, job_path
from jobs.queueing.forecast import Forecast, forecast
from jobs.tables import Job

_PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")
_RETRY_AFTER_SECONDS = 2

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 printable ASCII characters; the same key and content give the same job",
    ),
]


def documented(schema: type[JobRequest], operations: tuple[str, ...], *refusals: type[Problem]) -> dict[str, Any]:
    """What a route that takes requests says of itself.

    refusals: what this kind alone can be refused for.
    operations: what can be asked about the new job, by its id: for generators of clients and of calls.
    """
    links = {each: {"operationId": each, "parameters": {"job_id": "$response.body#/id"}} for each in operations}
    return {
        "status_code": 202,
        "response_description": "Accepted and stored: from here on no crash loses it",
        "openapi_extra": submission_body(schema),
        "responses": {
            202: {
                "headers": {
                    "Location": {"description": "the job's path", "schema": {"type": "string"}},
                    "Retry-After": {"description": "seconds until a look is worth it", "schema": {"type": "integer"}},
                    "Idempotency-Replayed": {
                        "description": "`true` when an earlier request with this key made the job",
                        "schema": {"type": "string"},
                    },
                },
                "links": links,
            },
            **problem_responses(
                MalformedRequest, Unauthenticated, RequestInFlight, BodyTooLarge, UnsupportedMediaType, InvalidRequest,
                IdempotencyKeyReused, *refusals,
            ),
        },
    }  # fmt: skip


async def take(
    request: Request, response: Response, caller: Caller, idempotency_key: str | None, schema: type[JobRequest]
) -> JobView:
    """Takes a request and answers with its job. Raises a Problem when it is refused."""
    if idempotency_key is not None and not _PRINTABLE.fullmatch(idempotency_key):
        error = FieldError("takes 1 to 255 printable ASCII characters", name="Idempotency-Key")
        raise InvalidRequest.of([error])
    client = await valid_client(caller)
    job, replayed = await _take(request, caller.services, client, idempotency_key, schema)
    request.state.job_id = job.id  # for the log line of the middleware
    response.headers["Location"] = job_path(job.id, job.kind)
    response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if not replayed:
        return await to_thread(_new_job_view, caller.services, job)
    response.headers["Idempotency-Replayed"] = "true"
    return await to_thread(job_view, caller, job.id, job.kind)


async def _take(
    request: Request, services: Services, client: KnownClient, idempotency_key: str | None, schema: type[JobRequest]
) -> tuple[Job, bool]:
    """Receives the body, checks it in the client's turn, and submits it; returns as `submit_job` does."""
    job_id: UUID = uuid4()
    data_key, wrapped_data_key = services.keyring.new_data_key(job_id)
    async with received(request, services, client, data_key, schema) as unchecked:
        # A request is answered again even if its model has left the catalog since.
        if idempotency_key is not None and await to_thread(is_known, services, client.id, idempotency_key):
            canonical = await checked_in_turn(request, services, client, canonical_text_of, unchecked)
            return await to_thread(replayed_job, services, client.id, idempotency_key, canonical), True
        await to_thread(refuse_without_place, services, client, schema.kind)
        checked = await checked_in_turn(request, services, client, check_request, unchecked)
        submission = Submission(job_id, client, idempotency_key, checked, unchecked.sealed, wrapped_data_key)
        return await to_thread(submit_job, services, submission)


def _new_job_view(services: Services, job: Job) -> JobView:
    """The view of a job that was just committed. It is accepted, so it is answered for even if nothing can be read."""
    try:
        with services.read_sessions() as s:
            expected = forecast(s, job)
    except SQLAlchemyError:
        expected = Forecast()
    return JobView.of(job, services.settings.max_attempts, forecast=expected)
