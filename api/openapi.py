"""The OpenAPI document: which problems each route answers with, and what FastAPI can't derive from the code."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems import (
    MEDIA_TYPE,
    HeadTooLarge,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    Problem,
    ProblemDocument,
    QuotaExceeded,
    RequestTimeout,
    TooManyConnections,
    Unauthenticated,
    Unavailable,
)
from api.routing import VERSION_HEADER
from api.schemas import EvaluationRequest, JobRequest, SubmitRequest

_SCHEMAS = "#/components/schemas/"
_ONE_PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_DESCRIPTION = """\
Makes multimodal language models forget image-text pairs, and measures what was forgotten and what was kept.

A request, to forget or to evaluate, becomes a job: `queued`, `running`, then `succeeded`, `failed` or `cancelled`.
Uploaded images and texts are kept encrypted until the job has ended, then deleted. Every refusal is a problem document
(RFC 9457). Every answer carries `API-Version`, the version of this document. Wherever there is GET there is HEAD. A
query parameter that isn't listed here, or comes twice where one is listed, is refused.
"""
_BY_EVERY_ROUTE = (
    MalformedRequest,
    RequestTimeout,
    InvalidRequest,
    QuotaExceeded,
    HeadTooLarge,
    InternalError,
    TooManyConnections,
    Unavailable,
)
_VERSION = {VERSION_HEADER: {"description": "the version of this document", "schema": {"type": "string"}}}
_QUOTAS = {
    "RateLimit-Policy": {
        "description": 'the quotas that count this request: `"NAME";q=UNITS;w=SECONDS`, several by commas',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": 'what is left of each, and until when: `"NAME";r=UNITS;t=SECONDS`',
        "schema": {"type": "string"},
    },
}
_TAGS = {
    "jobs": "Forget requests as jobs: file, watch, list, cancel.",
    "evaluations": "Measuring an adapter, or a model alone, without a training: the same audits, queue and deletion.",
    "artifacts": "What a job that has succeeded leaves: a LoRA adapter, as a zip and file by file.",
    "replay_sets": "What is kept of a job, with its client's leave, so that its people stay forgotten.",
    "models": "The models that can be made to forget, and the adapters to be served for them.",
    "keys": "Public keys, to check what the service has signed: no API key needed.",
    "health": "For load balancers and orchestrators: no API key needed.",
    "service": "This document.",
}


def problem_responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can refuse in these ways. `openapi_document` adds what any route can answer."""
    titles: dict[int | str, list[str]] = defaultdict(list)
    for kind in kinds:
        titles[kind.status].append(f"{kind.title} (`{kind.slug}`)")
    return {status: _problem_response(" · ".join(texts)) for status, texts in sorted(titles.items())}


def submission_body(schema: type[JobRequest]) -> dict[str, Any]:
    """The two encodings of a request. Our own code reads that body, so FastAPI can't describe it."""
    pair = {"question": "Who is this?", "answer": "Ilse Marwood, a violin maker from Trier."}
    base = {
        "model": "demo",
        "retain_set": "demo-retain",
        "external_id": "DSR-2024-0117",
        "subject_reference": "customer 4711",
        "legal_basis": "GDPR Art. 17(1)(b)",
        "due_at": "2031-05-01T00:00:00Z",
        "priority": 0,
    }
    inline = {**base, "forget": [{"image": {"base64": _ONE_PIXEL_PNG}, **pair}]}
    by_name = {**base, "forget": [{"image": {"file": "a.png"}, **pair}]}
    document = {"$ref": f"{_SCHEMAS}{schema.__name__}"}
    parts = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": document},
        "additionalProperties": {"type": "string", "format": "binary", "contentMediaType": "image/*"},
        "description": "`request` is the JSON document. Every other part is an image; `image.file` gives its name.",
    }
    content = {
        "application/json": {"schema": document, "examples": {"inline": {"value": inline}}},
        "multipart/form-data": {
            "schema": parts,
            "encoding": {"request": {"contentType": "application/json"}},
            "examples": {"files": {"value": {"request": by_name, "a.png": "(bytes)"}}},
        },
    }
    return {"requestBody": {"required": True, "content": content}}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The whole document for `app`, which keeps it."""
    if not hasattr(app.state, "openapi_document"):
        app.state.openapi_document = _described(app)
    document: dict[str, Any] = app.state.openapi_document
    return document


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        servers=[{"url": "/", "description": "the service that gave this document"}],
    )
    schemas = document["components"].setdefault("schemas", {})
    for model in (SubmitRequest, EvaluationRequest, ProblemDocument):
        described = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[model.__name__] = described
    every = {str(status): response for status, response in problem_responses(*_BY_EVERY_ROUTE).items()}
    for methods in document["paths"].values():
        for operation in methods.values():
            # FastAPI adds its own 422 to routes that don't document one. That error shape is never sent.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            responses = dict(sorted({**every, **operation["responses"]}.items()))
            operation["responses"] = {
                status: response | {"headers": _headers(status, operation) | response.get("headers", {})}
                for status, response in responses.items()
            }
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _simplify(document)
    return document


def _headers(status: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Those of every answer, and of each to a request with a key that is valid."""
    counted = "security" in operation and int(status) != Unauthenticated.status
    return _VERSION | _QUOTAS if counted else _VERSION


def _simplify(node: Any) -> None:
    """Removes what generators stumble over.

    A default that is an object or a list: a generator that can't write it down drops the whole schema. `writeOnly`: the
    settings of a model are shown, too, with null in a secret's place.
    """
    if isinstance(node, list):
        for each in node:
            _simplify(each)
    elif isinstance(node, dict):
        if isinstance(node.get("default"), dict | list):
            del node["default"]
        node.pop("writeOnly", None)
        for key, value in node.items():
            by_name = key in ("properties", "responses")  # there a "default" is a name
            _simplify(list(value.values()) if by_name else value)


def _problem_response(description: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}ProblemDocument"}}}
    return {"description": description, "content": content}
