"""Why jobs can't be run, in the ledger's terms."""

from __future__ import annotations

from uuid import UUID

from jobs.parting import Refusal
from jobs.surroundings import sign_of
from vgid_core.errors import RequestsRefused, UnlearnError
from vgid_core.spec import OWN
from worker.attempt.not_runnable import JobNotRunnable


def refusal_of(error: Exception) -> Refusal:
    """What the job is told of an UnlearnError, a JobNotRunnable or a DataError."""
    code = error.code if isinstance(error, UnlearnError | JobNotRunnable) else "data-unusable"
    return Refusal(code, str(error))


def refusals_of(error: RequestsRefused, first: UUID) -> dict[UUID, Refusal]:
    """Why each refused job can't be run. first: the run's first job. Raises what is a fault of the surroundings."""
    for each in error.refused.values():
        if sign_of(each) is not None:
            raise each
    return {first if label == OWN else UUID(label): refusal_of(each) for label, each in error.refused.items()}
