"""Every way a request can be refused, each with its HTTP status; one handler turns them into RFC 9457 documents.

No document repeats a value that was sent: names of fields appear, what was in them doesn't.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# A body of 5000 bad pairs would otherwise be answered with 5000 lines.
MOST_ERRORS = 50
_LONGEST_NAME = 64


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
    errors: list[FieldProblem] = Field(default_factory=list, description=f"at most the first {MOST_ERRORS}")


@dataclass(frozen=True)
class FieldError:
    """A fault at a place. `loc` leads into the JSON body; a query parameter or a header is named by `name` alone."""

    detail: str
    loc: tuple[str | int, ...] = ()
    name: str | None = None

    def as_document(self) -> FieldProblem:
        """The wire form: `forget[3].image` and `#/forget/3/image`."""
        if self.name is not None:
            return FieldProblem(field=self.name, detail=self.detail)
        steps = [step if isinstance(step, int) else step[:_LONGEST_NAME] for step in self.loc]
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
        pointer = "#" + "".join("/" + _escaped(step) for step in steps)
        return FieldProblem(field=field or "(body)", pointer=pointer, detail=self.detail)


class Problem(Exception):
    """Base of all refusals. `detail` and `errors` hold no personal data and no value from the request."""

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
    """The bytes can't be read as what they claim to be."""

    status, slug, title = 400, "malformed-request", "The request can't be read"


class Unauthenticated(Problem):
    """No key, or one that isn't valid."""

    status, slug, title = 401, "unauthenticated", "A valid API key is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="vgid"'})


class NotFound(Problem):
    """Nothing here, or nothing that this client may see."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Problem):
    """The resource doesn't know this method."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class ArtifactUnavailable(Problem):
    """The job has no artifact (yet)."""

    status, slug, title = 409, "artifact-unavailable", "The job has no artifact"


class RequestInFlight(Problem):
    """A request with the same idempotency key is being handled at this moment."""

    status, slug, title = 409, "idempotency-in-flight", "The same request is still being handled"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class JobAlreadyEnded(Problem):
    """The job's state no longer allows what was asked."""

    status, slug, title = 409, "job-ended", "The job has ended"


class BodyTooLarge(Problem):
    """More bytes than the service takes."""

    status, slug, title = 413, "body-too-large", "The request body is too large"


class UnsupportedMediaType(Problem):
    """Neither JSON nor multipart/form-data."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class RangeNotSatisfiable(Problem):
    """A Range that lies outside the file."""

    status, slug, title = 416, "range-not-satisfiable", "The range lies outside the file"


class InvalidRequest(Problem):
    """Readable, but something in it is wrong; `errors` says what and where."""

    status, slug, title = 422, "invalid-request", "The request isn't valid"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> InvalidRequest:
        """One refusal for all `errors`; only the first MOST_ERRORS are listed."""
        count = len(errors)
        detail = "1 problem was found" if count == 1 else f"{count} problems were found"
        if count > MOST_ERRORS:
            detail += f", the first {MOST_ERRORS} are listed"
        return cls(detail + ".", errors=errors[:MOST_ERRORS])


class IdempotencyKeyReused(Problem):
    """The key belongs to another request body."""

    status, slug, title = 422, "idempotency-key-reused", "The Idempotency-Key was used for another request"


class InternalError(Problem):
    """Our fault."""

    status, slug, title = 500, "internal-error", "Something went wrong on our side"

    def __init__(self) -> None:
        super().__init__("The request wasn't completed. The log has more under the X-Request-ID of this answer.")


class Unavailable(Problem):
    """A service that this one needs can't be reached; trying again helps."""

    status, slug, title = 503, "unavailable", "The service isn't available at the moment"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail, errors=errors, headers={"Retry-After": "5"})


def body_errors(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """Pydantic's findings about the JSON body, without the values they are about."""
    return [FieldError(_message(error), loc=tuple(error["loc"])) for error in errors]


def problem_response(problem: Problem, request_id: str | None) -> JSONResponse:
    """The document for `problem`, with its headers."""
    document = ProblemDocument(
        type=f"urn:vgid:problem:{problem.slug}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=f"urn:vgid:request:{request_id}" if request_id else None,
        errors=[error.as_document() for error in problem.errors],
    )
    content = document.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install_problem_handler(app: FastAPI) -> None:
    """Makes `app` answer every refusal, its own or the framework's, with a problem document."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        problem = _as_problem(error)
        if problem.status >= 500:
            log.error("request failed", exc_info=error)
        return problem_response(problem, getattr(request.state, "request_id", None))

    for kind in (Problem, HTTPException, RequestValidationError, OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, answer)


def _as_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _from_parameters(error)
    if isinstance(error, HTTPException):
        return _from_framework(error)
    return Unavailable("The database can't be reached. Nothing was accepted; try again.")


def _from_parameters(error: RequestValidationError) -> Problem:
    findings = error.errors()
    if any(finding["loc"][0] == "path" for finding in findings):
        return NotFound("There is nothing here.")
    return InvalidRequest.of(
        [FieldError(_message(finding), name=str(finding["loc"][-1])[:_LONGEST_NAME]) for finding in findings]
    )


def _from_framework(error: HTTPException) -> Problem:
    if error.status_code == 404:
        return NotFound("There is nothing here.")
    if error.status_code == 405:
        return MethodNotAllowed("See the Allow header for what is possible.", headers=error.headers)
    return InternalError() if error.status_code >= 500 else MalformedRequest("The request can't be read.")


def _message(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        text = "is required"
    elif error["type"] == "extra_forbidden":
        text = "is not a known field"
    return text


def _escaped(step: str | int) -> str:
    return quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")
