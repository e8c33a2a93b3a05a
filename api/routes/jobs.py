"""Routes that read jobs, list them and cancel them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from starlette.responses import HTMLResponse

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
from api.routing import Router
from api.services import CallerDep
from api.views.job import JobList, JobView, SignedEnvelope
from api.views.measured import MetricList
from jobs.states import Kind

router = Router(prefix="/unlearn-jobs", tags=["jobs"])


@router.get(
    "",
    operation_id="list_jobs",
    summary="List your jobs",
    responses=problem_responses(Unauthenticated, InvalidRequest),
)
def list_jobs(
    caller: CallerDep, query: Annotated[ListQuery, Query()], subject_reference: SubjectReference = None
) -> JobList:
    """Newest first, or as `sort` says. For the next page, pass `next_cursor` on as `cursor`, with the same filters."""
    return reading.job_list(caller, Kind.unlearn, query, subject_reference)


@router.get(
    "/{job_id:uuid}",
    operation_id="get_job",
    summary="Look at a job",
    response_model=JobView,
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_job(caller: CallerDep, job_id: UUID) -> Response:
    """State, place in the queue, phase, progress, estimated start or finish, measurements and artifact."""
    return reading.job_json(caller, job_id, Kind.unlearn)


@router.get(
    "/{job_id:uuid}/metrics",
    operation_id="get_metrics",
    summary="What was measured",
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_metrics(caller: CallerDep, job_id: UUID) -> MetricList:
    """Every figure before and after forgetting; empty until the first ones are known."""
    return reading.metric_list(caller, job_id, Kind.unlearn)


@router.get(
    "/{job_id:uuid}/evidence",
    operation_id="get_evidence",
    summary="What the audits found",
    responses=problem_responses(Unauthenticated, NotFound, EvidenceUnavailable),
)
def get_evidence(caller: CallerDep, job_id: UUID) -> dict[str, Any]:
    """Every figure with its interval and control, the verdict, and what it doesn't show."""
    return reading.evidence(caller, job_id, Kind.unlearn)


@router.get(
    "/{job_id:uuid}/report",
    operation_id="get_report",
    summary="The evidence as a page",
    response_class=HTMLResponse,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "HTML that needs nothing else"},
        **problem_responses(Unauthenticated, NotFound, EvidenceUnavailable),
    },
)
def get_report(caller: CallerDep, job_id: UUID) -> HTMLResponse:
    """Verdict, claims, figures and limits for people to read. It holds no photo, no text and no name of anybody."""
    page = reading.report(caller, job_id)
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


@router.get(
    "/{job_id:uuid}/receipt",
    operation_id="get_receipt",
    summary="Get the deletion receipt",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_receipt(caller: CallerDep, job_id: UUID) -> SignedEnvelope:
    """A signed statement of what of the job was deleted when. `vgid verify` checks it."""
    return reading.receipt(caller, job_id, Kind.unlearn)


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
    return reading.cancel_job(caller, job_id, Kind.unlearn, response)
