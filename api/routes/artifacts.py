"""What a job that forgets leaves: downloads of its adapter, as a zip and file by file, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import HTMLResponse, Response

from api.openapi import problem_responses
from api.problems import (
    ArtifactUnavailable,
    EvidenceUnavailable,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    Unauthenticated,
)
from api.routes.downloads import Download
from api.routes.reading import report
from api.routing import Router
from api.services import CallerDep

router = Router(prefix="/unlearn-jobs/{job_id:uuid}", tags=["artifacts"])

ZIP = "application/zip"
_MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
BINARY = "application/octet-stream"


def documented(*media_types: str) -> dict[str, Any]:
    """What the OpenAPI document says of a download. Many generators only know `application/octet-stream` as bytes."""
    binary = {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}}
    etag = {"ETag": {"description": "strong: the sha256 of the bytes", "schema": {"type": "string"}}}
    return {
        "response_class": Response,
        "responses": {
            200: {**binary, "headers": etag, "description": "The whole file"},
            206: {**binary, "headers": etag, "description": "The range that was asked for"},
            304: {"description": "If-None-Match names the file's ETag"},
            **problem_responses(
                Unauthenticated, NotFound, ArtifactUnavailable, PreconditionFailed, RangeNotSatisfiable
            ),
        },
    }


@router.get("/artifact", operation_id="download_artifact", summary="Download the adapter", **documented(ZIP, BINARY))
def get_artifact(request: Request, caller: CallerDep, job_id: UUID) -> Response:
    """A zip that PEFT loads after unpacking. Takes Range, If-Range, If-Match and If-None-Match."""
    artifact = caller.artifact(job_id)
    download = Download(f"vgid-{job_id}.zip", ZIP, artifact.sha256, artifact.size_bytes)
    return download.file_response(request, caller.services.blobs.path_of_artifact(artifact.sha256))


@router.get(
    "/artifact/files/{name}",
    operation_id="download_file",
    summary="Download one file of the adapter",
    **documented(BINARY, *_MEDIA_TYPES.values()),
)
def get_file(request: Request, caller: CallerDep, job_id: UUID, name: str) -> Response:
    """One member of the zip by its name in the job's record, with the same headers as the zip itself."""
    artifact = caller.artifact(job_id)
    file = next((file for file in artifact.files if file["name"] == name), None)
    if file is None:
        raise NotFound("The artifact has no such file.")
    download = Download(name, _MEDIA_TYPES.get(Path(name).suffix, BINARY), file["sha256"], file["size"])
    return download.member_response(request, caller.services.blobs.path_of_artifact(artifact.sha256))


@router.get(
    "/report",
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
    page = report(caller, job_id)
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})
