"""What was found of an ended job: the evidence as a document, and as a page for people."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from starlette.responses import HTMLResponse

from api.openapi import problem_responses
from api.problems import EvidenceUnavailable, NotFound, Unauthenticated
from api.routes import reading
from api.routing import Router
from api.services import CallerDep
from jobs import repository
from jobs.states import Kind
from jobs.tables import Artifact, Job
from vgid_core.report.page import Report

router = Router(prefix="/unlearn-jobs", tags=["jobs"])


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
    with caller.job(job_id, Kind.unlearn) as own:
        if own.artifact is None:
            raise EvidenceUnavailable("A report is there once a job has ended with an adapter.")
        page = _report(own.job, own.artifact, repository.evidence_of(own.session, job_id)).html()
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


def _report(job: Job, artifact: Artifact, evidence: dict[str, Any] | None) -> Report:
    """The report of an ended job, of what the ledger holds."""
    about = {
        "job": str(job.id),
        "your number": job.external_id or "",
        "legal basis": job.legal_basis or "",
        "filed": f"{job.created_at:%Y-%m-%d %H:%M} UTC",
        "ended": f"{job.finished_at:%Y-%m-%d %H:%M} UTC" if job.finished_at else "",
        "uploads deleted": f"{job.inputs_deleted_at:%Y-%m-%d %H:%M} UTC" if job.inputs_deleted_at else "",
        "adapter (zip)": f"sha256 {artifact.sha256}",
    }
    return Report(evidence, artifact.manifest, {name: value for name, value in about.items() if value})
