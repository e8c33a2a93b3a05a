"""Every way in which a request can be refused, each with its HTTP status.

The answer is an RFC 9457 problem document. It names fields and never repeats a value that was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from api.routing import API_VERSION, VERSION_HEADER

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Without a limit, a body of 5000 bad pairs would be answered with 5000 errors.
_MAX_ERRORS = 20
_MAX_NAME_LENGTH = 64


class FieldProblem(BaseModel):
    """One thing wrong with one field."""

    field: str = Field(description="where, for a person: `forget[3].image`, a query parameter or a header")
    pointer: str | None = Field(default=None, description="where in the JSON body, as a URI fragment JSON Pointer")
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="`urn:vgid:problem:<slug>`, stable")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="`urn:vgid:request:<X-Request-ID>`, as in the log")
    errors: list[FieldProblem] = Field(default_factory=list, description=f"at most the first {_MAX_ERRORS}")


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field.

    loc: the path into the JSON body. name: the name of a query parameter or a header, which has no path.
    """

    detail: str
    loc: tuple[str | int, ...] = ()
    name: str | None = None

    def as_document(self) -> FieldProblem:
        """The form that is sent, with `forget[3].image` and `#/forget/3/image` for one path."""
        if self.name is not None:
            return FieldProblem(field=self.name[:_MAX_NAME_LENGTH] or "(query)", detail=self.detail)
        steps = [step if isinstance(step, int) else step[:_MAX_NAME_LENGTH] for step in self.loc]
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
        pointer = "#" + "".join("/" + _escaped(step) for step in steps)
        return FieldProblem(field=field or "(body)", pointer=pointer, detail=self.detail)


class Problem(Exception):
    """The base of all refusals. `detail` and `errors` hold no personal data and no value from the request."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class MalformedRequest(Problem):
    """The body's bytes don't have the form that its Content-Type names."""

    status, slug, title = 400, "malformed-request", "The request can't be read"


class Unauthenticated(Problem):
    """The request has no API key, or an invalid one."""

    status, slug, title = 401, "unauthenticated", "A valid API key is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="vgid"'})


class NotFound(Problem):
    """Nothing is there, or nothing that this client may see."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Problem):
    """The resource doesn't know this method."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class RequestTimeout(Problem):
    """The request arrives too slowly."""

    status, slug, title = 408, "request-timeout", "The request takes too long to arrive"


class ArtifactUnavailable(Problem):
    """The job has no artifact (yet)."""

    status, slug, title = 409, "artifact-unavailable", "The job has no artifact"


class ReceiptUnavailable(Problem):
    """The job's uploads aren't deleted yet, or nobody has signed yet that they are."""

    status, slug, title = 409, "receipt-unavailable", "There is no deletion receipt yet"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class EvidenceUnavailable(Problem):
    """The job has no evidence (yet)."""

    status, slug, title = 409, "evidence-unavailable", "The job has no evidence"


class RequestInFlight(Problem):
    """Another request with the same idempotency key is still being handled."""

    status, slug, title = 409, "idempotency-in-flight", "The same request is still being handled"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class JobAlreadyEnded(Problem):
    """The job has ended, so it can't be cancelled."""

    status, slug, title = 409, "job-ended", "The job has ended"


class PreconditionFailed(Problem):
    """If-Match names other bytes than there are."""

    status, slug, title = 412, "precondition-failed", "The file is another one"


class BodyTooLarge(Problem):
    """The body has more bytes than the service takes."""

    status, slug, title = 413, "body-too-large", "The request body is too large"


class UnsupportedMediaType(Problem):
    """The body is neither JSON nor multipart/form-data, or it is compressed."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class RangeNotSatisfiable(Problem):
    """The requested range lies outside the file."""

    status, slug, title = 416, "range-not-satisfiable", "The range lies outside the file"


class InvalidRequest(Problem):
    """The request can be read, but fields of it are wrong. `errors` lists them."""

    status, slug, title = 422, "invalid-request", "The request isn't valid"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> InvalidRequest:
        """One refusal for all `errors`, of which it lists the first _MAX_ERRORS."""
        count = len(errors)
        detail = "1 problem was found" if count == 1 else f"{count} problems were found"
        if count > _MAX_ERRORS:
            detail += f", the first {_MAX_ERRORS} are listed"
        return cls(detail + ".", errors=errors[:_MAX_ERRORS])


class QuotaExceeded(Problem):
    """The client has used up a quota, or has as much queued as it may."""

    status, slug, title = 429, "quota-exceeded", "A quota is used up"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class HeadTooLarge(Problem):
    """The request's line and headers have more bytes than the service takes."""

    status, slug, title = 431, "head-too-large", "The request's headers are too large"


class AlreadyForgotten(Problem):
    """The model has forgotten this subject already."""

    status, slug, title = 409, "already-forgotten", "The model has forgotten this subject already"


class NoRelease(Problem):
    """No release is current, or none that the key may see: the two are answered alike."""

    status, slug, title = 404, "no-release", "The model has no current release"


class IdempotencyKeyReused(Problem):
    """The idempotency key belongs to a request with another content."""

    status, slug, title = 422, "idempotency-key-reused", "The Idempotency-Key was used for another request"


class InternalError(Problem):
    """The service itself failed."""

    status, slug, title = 500, "internal-error", "Something went wrong on our side"

    def __init__(self) -> None:
        super().__init__("The request wasn't completed. The log has more under the X-Request-ID of this answer.")


class Unavailable(Problem):
    """A service that this one needs can't be reached. Trying again helps."""

    status, slug, title = 503, "unavailable", "The service isn't available at the moment"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail, errors=errors, headers={"Retry-After": "5"})


class TooManyConnections(Problem):
    """The server has, or the peer holds, as many connections as it may."""

    status, slug, title = 503, "too-many-connections", "There are too many connections"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


def body_errors(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """Pydantic's errors about the JSON body as ours, which leave out the values."""
    return [FieldError(message_of(error), loc=tuple(error["loc"])) for error in errors]


def problem_response(problem: Problem, request_id: str | None) -> JSONResponse:
    """The answer for `problem`: its document and its headers."""
    document = ProblemDocument(
        type=f"urn:vgid:problem:{problem.slug}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=f"urn:vgid:request:{request_id}" if request_id else None,
        errors=[error.as_document() for error in problem.errors],
    )
    content = document.model_dump(exclude_none=True)
    headers = {**problem.headers, VERSION_HEADER: API_VERSION}
    return JSONResponse(content, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def message_of(error: Mapping[str, Any]) -> str:
    """What a finding of pydantic's says, in our words; never the value."""
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        text = "is required"
    elif error["type"] == "extra_forbidden":
        text = "is not a known field"
    return text


def _escaped(step: str | int) -> str:
    return quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")
