"""The OpenAPI document: which problems each route answers with, and what FastAPI can't derive from the code."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems import MEDIA_TYPE, Problem, ProblemDocument
from api.schemas import SubmitRequest

_SCHEMAS = "#/components/schemas/"
_ONE_PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_DESCRIPTION = """\
Makes multimodal language models forget image-text pairs, and measures what was forgotten and what was kept.

A forget request becomes a job: `queued`, `running`, then `succeeded`, `failed` or `cancelled`. Uploaded images and
texts are kept encrypted until the job has ended, then deleted. Every refusal is a problem document (RFC 9457).
"""


def problem_responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can refuse in these ways. `openapi_document` adds 500 and 503 to every route."""
    titles: dict[int | str, list[str]] = defaultdict(list)
    for kind in kinds:
        titles[kind.status].append(f"{kind.title} (`{kind.slug}`)")
    return {status: _problem_response(" · ".join(texts)) for status, texts in sorted(titles.items())}


def submission_body() -> dict[str, Any]:
    """The two encodings of POST /unlearn-jobs. Our own code reads that body, so FastAPI can't describe it."""
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
    schema = {"$ref": f"{_SCHEMAS}SubmitRequest"}
    parts = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": schema},
        "additionalProperties": {"type": "string", "contentMediaType": "image/*"},
        "description": "`request` is the JSON document. Every other part is an image; `image.file` gives its name.",
    }
    content = {
        "application/json": {"schema": schema, "examples": {"inline": {"value": inline}}},
        "multipart/form-data": {
            "schema": parts,
            "encoding": {"request": {"contentType": "application/json"}},
            "examples": {"files": {"value": {"request": by_name, "a.png": "(bytes)"}}},
        },
    }
    return {"requestBody": {"required": True, "content": content}}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The whole document for `app`."""
    document = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    schemas = document["components"].setdefault("schemas", {})
    for model in (SubmitRequest, ProblemDocument):
        described = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[model.__name__] = described
    every = {
        "500": _problem_response("Something went wrong on our side (`internal-error`)"),
        "503": _problem_response("A service that this one needs isn't available; try again (`unavailable`)"),
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"] = {**every, **operation["responses"]}
            # FastAPI adds its own 422 to routes that don't document one. That error shape is never sent.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _problem_response(description: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}ProblemDocument"}}}
    return {"description": description, "content": content}
