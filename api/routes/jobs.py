"""Routes that read jobs, list them and cancel them."""

from __future__ import annotations

import logging
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import TypeAdapter, ValidationError

from api.identifiers import Reference
from api.openapi import problem_responses
from api.problems import (
    FieldError,
    InvalidRequest,
    JobAlreadyEnded,
    NotFound,
    ReceiptUnavailable,
    Unauthenticated,
)
from api.routing import Router
from api.schemas import ListQuery
from api.services import Caller, CallerDep, Services
from api.views.job import JobList, JobSummary, JobView, SignedEnvelope
from api.views.measured import MetricList, metric_views
from jobs import repository
from jobs.job_lists import InvalidCursor, JobFilter, count_jobs, list_page
from jobs.queueing.forecast import Forecast, forecast
from jobs.repository import JobEnded
from jobs.signing.receipt import receipt_of
from jobs.states import State
from jobs.storage.input_cleanup import delete_inputs

log = logging.getLogger(__name__)
router = Router(prefix="/unlearn-jobs", tags=["jobs"])

_reference: TypeAdapter[str] = TypeAdapter(Reference)


@router.get(
    "", operation_id="list_jobs", summary="List your jobs", responses=problem_responses(Unauthenticated, InvalidRequest)
)
def list_jobs(
    caller: CallerDep,
    query: Annotated[ListQuery, Query()],
    subject_reference: Annotated[
        str | None,
        Header(
            alias="Subject-Reference",
            description="Only jobs filed with this `subject_reference` (UTF-8). A header, because a query string would "
            "leave the reference in the logs and histories of everything between the caller and this service.",
        ),
    ] = None,
) -> JobList:
    """Newest first, or as `sort` says. For the next page, pass `next_cursor` on as `cursor`, with the same filters."""
    subject_hash = None if subject_reference is None else _subject_hash(caller.services, subject_reference)
    wanted = JobFilter(subject_hash=subject_hash, **query.filters)
    with caller.session() as (s, client_id):
        try:
            jobs, next_cursor = list_page(s, client_id, wanted, sort=query.sort, cursor=query.cursor, limit=query.limit)
        except InvalidCursor:
            raise InvalidRequest.of([FieldError("wasn't given by this list", name="cursor")]) from None
        total = count_jobs(s, client_id, wanted) if query.total else None
    max_attempts = caller.services.settings.max_attempts
    return JobList(jobs=[JobSummary.of(job, max_attempts) for job in jobs], next_cursor=next_cursor, total=total)


@router.get(
    "/{job_id:uuid}",
    operation_id="get_job",
    summary="Look at a job",
    response_model=JobView,
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_job(caller: CallerDep, job_id: UUID) -> Response:
    """State, place in the queue, phase, progress, estimated start or finish, measurements and artifact."""
    # The service's most frequent request. FastAPI would validate the view once more, so it is written as JSON here.
    return Response(job_view(caller, job_id).model_dump_json(), media_type="application/json")


@router.get(
    "/{job_id:uuid}/metrics",
    operation_id="get_metrics",
    summary="What was measured",
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_metrics(caller: CallerDep, job_id: UUID) -> MetricList:
    """Every figure before and after forgetting; empty until the first ones are known."""
    with caller.job(job_id) as own:
        return MetricList(metrics=metric_views(repository.metrics_of(own.session, job_id)))


@router.get(
    "/{job_id:uuid}/receipt",
    operation_id="get_receipt",
    summary="Get the deletion receipt",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_receipt(caller: CallerDep, job_id: UUID) -> SignedEnvelope:
    """A signed statement of what of the job was deleted when. `vgid verify` checks it."""
    with caller.job(job_id) as own:
        receipt = receipt_of(own.session, job_id)
        deleted_at = own.job.inputs_deleted_at
    if receipt is None:
        missing = "The uploads aren't deleted yet" if deleted_at is None else "The deletion isn't signed yet"
        raise ReceiptUnavailable(f"{missing}: that follows within seconds of the job's end.")
    return SignedEnvelope.model_validate(receipt)


@router.post(
    "/{job_id:uuid}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="Cancelled",
    responses={
        202: {"model": JobView, "description": "The running job has been asked to stop"},
        **problem_responses(Unauthenticated, NotFound, JobAlreadyEnded),
    },
)
def cancel(caller: CallerDep, job_id: UUID, response: Response) -> JobView:
    """A queued job is cancelled at once, a running one within seconds. Asking again changes nothing."""
    services, client_id = caller.services, caller.client_id()
    with services.sessions.begin() as s:
        try:
            job = repository.request_cancel(s, client_id, job_id)
        except JobEnded as ended:
            raise JobAlreadyEnded(f"The job has {ended.state.value} already; there is nothing to cancel.") from None
    if job is None:
        raise NotFound("There is no such job.")
    if job.state is State.cancelled:
        try:
            delete_inputs(services.sessions, services.blobs, job_id)
        except OSError as error:  # its key is gone already; the reaper deletes the file once it can
            log.warning("uploads of a cancelled job can't be deleted yet", exc_info=error)
    else:
        response.status_code = 202
    return job_view(caller, job_id)


def job_view(caller: Caller, job_id: UUID) -> JobView:
    """The view of the client's job with its measurements and its artifact. Raises Unauthenticated or NotFound."""
    with caller.job(job_id) as own:
        metrics = repository.metrics_of(own.session, job_id)
        salt = None if own.artifact is None else caller.services.keyring.statement_salt(job_id).hex()
        expected = forecast(own.session, own.job) if own.job.state is State.queued else Forecast()
    return JobView.of(own.job, caller.services.settings.max_attempts, metrics, own.artifact, expected, salt)


def _subject_hash(services: Services, header: str) -> str:
    """The hash to search for. Starlette decodes header values as Latin-1, so they are decoded again as UTF-8."""
    try:
        return services.subject_hash(_reference.validate_python(header.encode("latin-1").decode()))
    except (UnicodeError, ValidationError):
        error = FieldError("takes 1 to 500 characters of UTF-8 on one line", name="Subject-Reference")
        raise InvalidRequest.of([error]) from None
