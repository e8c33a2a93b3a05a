"""What routes of both kinds of jobs answer: lists, views, evidence, reports, receipts, cancelling."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from pydantic import TypeAdapter, ValidationError

from api.identifiers import Reference
from api.problems import (
    EvidenceUnavailable,
    FieldError,
    InvalidRequest,
    JobAlreadyEnded,
    NotFound,
    ReceiptUnavailable,
)
from api.routes.queries import ListQuery
from api.services import Caller, Services
from api.views.job import JobList, JobSummary, JobView, SignedEnvelope
from api.views.measured import MetricList, metric_views
from jobs import repository
from jobs.job_lists import InvalidCursor, JobFilter, count_jobs, list_page
from jobs.queueing.forecast import Forecast, forecast
from jobs.repository import JobEnded
from jobs.signing.receipt import receipt_of
from jobs.states import Kind, State
from jobs.storage.input_cleanup import delete_inputs
from jobs.tables import Artifact, Job
from vgid_core.report.page import Report

log = logging.getLogger(__name__)

_reference: TypeAdapter[str] = TypeAdapter(Reference)


def _kind_of(request: Request) -> Kind:
    """The kind whose path was asked for, as `api.routes.jobs` has noted it."""
    kind: Kind = request.state.kind
    return kind


KindDep = Annotated[Kind, Depends(_kind_of)]
SubjectReference = Annotated[
    str | None,
    Header(
        alias="Subject-Reference",
        description="Only jobs filed with this `subject_reference` (UTF-8). A header, because a query string would "
        "leave the reference in the logs and histories of everything between the caller and this service.",
    ),
]


def job_list(caller: Caller, kind: Kind, query: ListQuery, subject_reference: str | None) -> JobList:
    """A page of the client's jobs of one kind. Raises Unauthenticated or InvalidRequest."""
    subject_hash = None if subject_reference is None else _subject_hash(caller.services, subject_reference)
    wanted = JobFilter(kind=kind, subject_hash=subject_hash, **query.filters)
    with caller.session() as (s, key):
        try:
            jobs, next_cursor = list_page(
                s, key.client_id, wanted, sort=query.sort, cursor=query.cursor, limit=query.limit
            )
        except InvalidCursor:
            raise InvalidRequest.of([FieldError("wasn't given by this list", name="cursor")]) from None
        total = count_jobs(s, key.client_id, wanted) if query.total else None
    max_attempts = caller.services.settings.max_attempts
    return JobList(jobs=[JobSummary.of(job, max_attempts) for job in jobs], next_cursor=next_cursor, total=total)


def job_view(caller: Caller, job_id: UUID, kind: Kind) -> JobView:
    """The view of the client's job with its measurements and its artifact. Raises Unauthenticated or NotFound."""
    with caller.job(job_id, kind) as own:
        metrics = repository.metrics_of(own.session, job_id)
        salt = None if own.artifact is None else caller.services.keyring.statement_salt(job_id).hex()
        expected = forecast(own.session, own.job) if own.job.state is State.queued else Forecast()
    return JobView.of(own.job, caller.services.settings.max_attempts, metrics, own.artifact, expected, salt)


def job_json(caller: Caller, job_id: UUID, kind: Kind) -> Response:
    """`job_view` as a response.

    It is the service's most frequent one. FastAPI would validate the view once more, so it is written as JSON here.
    """
    return Response(job_view(caller, job_id, kind).model_dump_json(), media_type="application/json")


def metric_list(caller: Caller, job_id: UUID, kind: Kind) -> MetricList:
    """What was measured so far. Raises Unauthenticated or NotFound."""
    with caller.job(job_id, kind) as own:
        return MetricList(metrics=metric_views(repository.metrics_of(own.session, job_id)))


def evidence(caller: Caller, job_id: UUID, kind: Kind) -> dict[str, Any]:
    """What the audits found. Raises Unauthenticated, NotFound or EvidenceUnavailable."""
    with caller.job(job_id, kind) as own:
        found = repository.evidence_of(own.session, job_id)
    if found is None:
        raise EvidenceUnavailable("Evidence is there once a job with audits has ended, unless nothing was measured.")
    return found


def report(caller: Caller, job_id: UUID) -> str:
    """What was found of a job that forgets, as a page in HTML. Raises as `evidence` does."""
    with caller.job(job_id, Kind.unlearn) as own:
        if own.artifact is None:
            raise EvidenceUnavailable("A report is there once a job has ended with an adapter.")
        return _report(own.job, own.artifact, repository.evidence_of(own.session, job_id)).html()


def receipt(caller: Caller, job_id: UUID, kind: Kind) -> SignedEnvelope:
    """The deletion receipt. Raises Unauthenticated, NotFound or ReceiptUnavailable."""
    with caller.job(job_id, kind) as own:
        found = receipt_of(own.session, job_id)
        deleted_at = own.job.inputs_deleted_at
    if found is None:
        missing = "The uploads aren't deleted yet" if deleted_at is None else "The deletion isn't signed yet"
        raise ReceiptUnavailable(f"{missing}: that follows within seconds of the job's end.")
    return SignedEnvelope.model_validate(found)


def cancel_job(caller: Caller, job_id: UUID, kind: Kind, response: Response) -> JobView:
    """Cancels a queued job, and asks for a running one to be stopped: then the status is 202.

    Raises Unauthenticated, NotFound or JobAlreadyEnded.
    """
    services, client_id = caller.services, caller.client_id()
    with services.sessions.begin() as s:
        try:
            job = repository.request_cancel(s, client_id, job_id, kind)
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
    return job_view(caller, job_id, kind)


def _subject_hash(services: Services, header: str) -> str:
    """The hash to search for. Starlette decodes header values as Latin-1, so they are decoded again as UTF-8."""
    try:
        return services.subject_hash(_reference.validate_python(header.encode("latin-1").decode()))
    except (UnicodeError, ValidationError):
        error = FieldError("takes 1 to 500 characters of UTF-8 on one line", name="Subject-Reference")
        raise InvalidRequest.of([error]) from None


def _report(job: Job, artifact: Artifact, evidence: dict[str, Any] | None) -> Report:
    """The report of an ended job, of what the ledger holds."""
    about = {
        "job": str(job.id),
        "your number": job.external_id or "",
        "legal basis": job.legal_basis or "",
        "filed": f"{job.created_at:%Y-%m-%d %H:%M} UTC",
        "ended": f"{job.finished_at:%Y-%m-%d %H:%M} UTC" if job.finished_at else "",
        "uploads deleted": f"{job.inputs_deleted_at:%Y-%m-%d %H:%M} UTC" if job.inputs_deleted_at else "",
        "taken back": f"{job.reverted_at:%Y-%m-%d %H:%M} UTC: the people are known again" if job.reverted_at else "",
        "adapter (zip)": f"sha256 {artifact.sha256}",
    }
    return Report(evidence, artifact.manifest, {name: value for name, value in about.items() if value})
