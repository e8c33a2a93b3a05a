"""Routes that read jobs, list them and cancel them. They are the same for both kinds, each under a path of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request, Response

from api.openapi import problem_responses
from api.problems import (
    EvidenceUnavailable,
    InvalidRequest,
    JobAlreadyEnded,
    NotFound,
    ReceiptUnavailable,
    Unauthenticated,
)
from api.routes import events, reading
from api.routes.queries import ListQuery
from api.routes.reading import KindDep, SubjectReference
from api.routing import Router
from api.services import CallerDep
from api.views.job import JOBS_PATHS, JobList, JobView, SignedEnvelope
from api.views.measured import MetricList
from jobs.states import Kind

_TAGS: dict[Kind, str] = {Kind.unlearn: "jobs", Kind.evaluate: "evaluations"}
# The functions' names are the operations of forget requests. Generated clients name their own functions after these.
_EVALUATIONS = {
    "list_jobs": "list_evaluations",
    "get_job": "get_evaluation",
    "get_metrics": "get_evaluation_metrics",
    "get_evidence": "get_evaluation_evidence",
    "get_receipt": "get_evaluation_receipt",
    "get_events": "get_evaluation_events",
    "cancel_job": "cancel_evaluation",
}
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_declared: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []


def routers() -> list[Router]:
    """The routes below, and that of the history, once for each kind of job."""
    return [_router(kind) for kind in JOBS_PATHS]


def _router(kind: Kind) -> Router:
    # With a prefix of its own: FastAPI doesn't tell a route under which prefix it was included.
    router = Router(prefix=JOBS_PATHS[kind], tags=[_TAGS[kind]], dependencies=[Depends(_marks(kind))])
    for path, endpoint, options in _declared:
        name = endpoint.__name__ if kind is Kind.unlearn else _EVALUATIONS[endpoint.__name__]
        router.add_api_route(path, endpoint, operation_id=name, **options)
    return router


def _marks(kind: Kind) -> Callable[[Request], None]:
    def mark(request: Request) -> None:
        request.state.kind = kind

    return mark


def _route(path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
    """Declares a route of both kinds; GET unless `methods` says otherwise."""

    def declare(endpoint: _Endpoint) -> _Endpoint:
        _declared.append((path, endpoint, options))
        return endpoint

    return declare


_route("/{job_id:uuid}/events", **events.DOCUMENTED)(events.get_events)


@_route("", summary="List your jobs", responses=problem_responses(Unauthenticated, InvalidRequest))
def list_jobs(
    caller: CallerDep, kind: KindDep, query: Annotated[ListQuery, Query()], subject_reference: SubjectReference = None
) -> JobList:
    """Newest first, or as `sort` says. For the next page, pass `next_cursor` on as `cursor`, with the same filters."""
    return reading.job_list(caller, kind, query, subject_reference)


@_route(
    "/{job_id:uuid}",
    summary="Look at a job",
    response_model=JobView,
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_job(caller: CallerDep, kind: KindDep, job_id: UUID) -> Response:
    """State, place in the queue, phase, progress, estimated start or finish, measurements, outcome and artifact."""
    return reading.job_json(caller, job_id, kind)


@_route("/{job_id:uuid}/metrics", summary="What was measured", responses=problem_responses(Unauthenticated, NotFound))
def get_metrics(caller: CallerDep, kind: KindDep, job_id: UUID) -> MetricList:
    """Every figure of the model before, and with the adapter; empty until the first ones are known."""
    return reading.metric_list(caller, job_id, kind)


@_route(
    "/{job_id:uuid}/evidence",
    summary="What the audits found",
    responses=problem_responses(Unauthenticated, NotFound, EvidenceUnavailable),
)
def get_evidence(caller: CallerDep, kind: KindDep, job_id: UUID) -> dict[str, Any]:
    """Every figure with its interval and control, the verdict, and what it doesn't show."""
    return reading.evidence(caller, job_id, kind)


@_route(
    "/{job_id:uuid}/receipt",
    summary="Get the deletion receipt",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_receipt(caller: CallerDep, kind: KindDep, job_id: UUID) -> SignedEnvelope:
    """A signed statement of what of the job was deleted when. `vgid verify` checks it."""
    return reading.receipt(caller, job_id, kind)


@_route(
    "/{job_id:uuid}/cancel",
    methods=["POST"],
    summary="Cancel a job",
    response_description="Cancelled",
    responses={
        202: {"model": JobView, "description": "The running job has been asked to stop"},
        **problem_responses(Unauthenticated, NotFound, JobAlreadyEnded),
    },
)
def cancel_job(caller: CallerDep, kind: KindDep, job_id: UUID, response: Response) -> JobView:
    """A queued job is cancelled at once, a running one within seconds. Asking again changes nothing."""
    return reading.cancel_job(caller, job_id, kind, response)
