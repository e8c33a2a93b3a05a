"""The errors of this package. Every message fits on one line and holds no personal data."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


class VgidError(Exception):
    """The base of every error that this package raises. `exit_code` is the command line's."""

    exit_code = 1


class DataFileError(VgidError):
    """A JSONL file or an image can't be read. The message names file, line and field."""

    exit_code = 2


class Unreachable(VgidError):
    """The service doesn't answer. Retries were refused, timed out or cut off too."""

    exit_code = 4


class UnexpectedReply(VgidError):
    """The answer isn't this service's. The URL may be wrong, or a proxy may have answered."""

    exit_code = 4


class IntegrityError(VgidError):
    """The downloaded bytes don't have the sha256 that the service has announced."""

    exit_code = 5


class UnverifiedRelease(VgidError):
    """A release isn't signed by a key of the operator's key file, was changed, or is for another model or base."""

    exit_code = 5


class FieldError(BaseModel):
    """What is wrong with one field of a refused request, e.g. `forget[3].image`."""

    model_config = ConfigDict(frozen=True)

    field: str
    detail: str
    pointer: str | None = None


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str = ""
    status: int
    detail: str = ""
    errors: tuple[FieldError, ...] = ()


class ApiError(VgidError):
    """The service refused the request or failed. `problem` is its answer, `status` the HTTP status."""

    exit_code = 3

    def __init__(self, problem: Problem) -> None:
        places = "; ".join(f"{error.field}: {error.detail}" for error in problem.errors[:3])
        more = len(problem.errors) - 3
        text = problem.detail or problem.title or f"HTTP {problem.status}"
        if places and problem.errors[0].detail not in text:
            text = f"{text.rstrip('.')}: {places}"
        super().__init__(f"{text} (and {more} more)" if more > 0 else text)
        self.problem = problem
        self.status = problem.status


class InvalidRequest(ApiError):
    """4xx: the request can't be accepted as it is."""


class Unauthorized(ApiError):
    """401 or 403: no API key, or not a valid one."""


class NotFound(ApiError):
    """404: no such job, or another client's."""


class Conflict(ApiError):
    """409: the job is in a state that doesn't allow this, or the same request is still in flight."""


class QuotaExceeded(ApiError):
    """429: a quota is used up, or as much waits as may. The message says which."""


class ServiceFailure(ApiError):
    """5xx: the service failed or isn't ready."""

    exit_code = 4


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    429: QuotaExceeded,
}


def error_from_response(response: httpx.Response) -> VgidError:
    """The exception for a response without success. The response's body must have been read."""
    try:
        body: Any = response.json()
        problem = Problem.model_validate({"status": response.status_code, **body})
    except (ValueError, TypeError, ValidationError):
        if response.status_code < 500 and response.status_code not in _BY_STATUS:
            return UnexpectedReply(f"HTTP {response.status_code} without a problem document: is this the right URL?")
        problem = Problem(status=response.status_code, title=f"HTTP {response.status_code} {response.reason_phrase}")
    if response.status_code >= 500:
        return ServiceFailure(problem)
    return _BY_STATUS.get(response.status_code, InvalidRequest)(problem)
