"""Loading what a route is about; what isn't there, or is another client's, is refused as not found."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from api.problems import NotFound
from api.services import Services
from api.views import JobView
from jobs import repository
from jobs.tables import Job


def job_of(s: Session, client_id: UUID, job_id: UUID) -> Job:
    """The client's job. Raises NotFound, the same way for a job that never was and for another client's."""
    job = repository.get_job(s, client_id, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def whole_job(services: Services, client_id: UUID, job_id: UUID) -> JobView:
    """The job with its measurements and its artifact. Raises NotFound."""
    with services.sessions() as s:
        job = job_of(s, client_id, job_id)
        metrics = repository.metrics_of(s, job_id)
        artifact = repository.artifact_of(s, job_id)
    return JobView.whole(job, services.settings.max_attempts, metrics, artifact)
