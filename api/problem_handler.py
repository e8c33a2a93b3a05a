"""Turns every error of a route into a problem document: our refusals, the framework's, faults of the surroundings."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.problems import (
    FieldError,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
    message_of,
    problem_response,
)
from api.routing import allowed_methods
from jobs.surroundings import sign_of

log = logging.getLogger(__name__)


def install_problem_handler(app: FastAPI) -> None:
    """Makes `app` answer every refusal with a problem document, FastAPI's own refusals included."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, OSError) and sign_of(error) is None:
            raise error  # the service's own fault: the middleware answers
        problem = _as_problem(error, request)
        if problem.status >= 500:
            log.error("request failed", exc_info=error)
        return problem_response(problem, getattr(request.state, "request_id", None))

    surroundings = (OperationalError, InterfaceError, PoolTimeout, OSError)
    for kind in (Problem, HTTPException, RequestValidationError, *surroundings):
        app.add_exception_handler(kind, answer)


def _as_problem(error: Exception, request: Request) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _from_parameters(error)
    if isinstance(error, HTTPException):
        return _from_framework(error, request)
    if isinstance(error, OSError):
        return Unavailable("The service's storage can't be written at the moment. Nothing was accepted; try again.")
    return Unavailable("The database can't be reached. Nothing was accepted; try again.")


def _from_parameters(error: RequestValidationError) -> Problem:
    findings = error.errors()
    if any(finding["loc"][0] == "path" for finding in findings):
        return NotFound("There is nothing here.")
    # After the parameter's name, a finding about one of its several values gives its position.
    return InvalidRequest.of([FieldError(message_of(finding), name=str(finding["loc"][1])) for finding in findings])


def _from_framework(error: HTTPException, request: Request) -> Problem:
    if error.status_code == 404:
        return NotFound("There is nothing here.")
    if error.status_code == 405:
        headers = {"Allow": ", ".join(allowed_methods(request))}
        return MethodNotAllowed("See the Allow header for what is possible.", headers=headers)
    return InternalError() if error.status_code >= 500 else MalformedRequest("The request can't be read.")
