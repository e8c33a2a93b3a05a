"""A job as its client gets to see it."""

from __future__ import annotations

from uuid import UUID

from api.services import Caller
from api.views import JobView
from jobs import repository


def whole_job(caller: Caller, job_id: UUID) -> JobView:
    """The job with its measurements and its artifact. Raises Unauthenticated or NotFound."""
    with caller.reading_job(job_id) as own:
        metrics = repository.metrics_of(own.session, job_id)
    return JobView.whole(own.job, caller.services.settings.max_attempts, metrics, own.artifact)
