"""The adapter: as the zip that was stored, and its single files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.documentation import problems
from api.downloads import Download
from api.problems import ArtifactUnavailable, NotFound, RangeNotSatisfiable, Unauthenticated
from api.services import CallerNeeded, Services, StoredArtifact

router = APIRouter(prefix="/unlearn-jobs/{job_id}/artifact", tags=["artifacts"])

_ZIP = "application/zip"
_MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
_BINARY = "application/octet-stream"


def _documented(media_type: str) -> dict[str, Any]:
    bytes_of = {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
    etag = {"ETag": {"description": "strong: the sha256 of the bytes", "schema": {"type": "string"}}}
    return {
        "response_class": Response,
        "responses": {
            200: {**bytes_of, "headers": etag, "description": "The whole file"},
            206: {**bytes_of, "headers": etag, "description": "The range that was asked for"},
            304: {"description": "If-None-Match names the file as it is"},
            **problems(Unauthenticated, NotFound, ArtifactUnavailable, RangeNotSatisfiable),
        },
    }


@router.head("", include_in_schema=False)
@router.get("", summary="Download the adapter", **_documented(_ZIP))
def get_artifact(request: Request, caller: CallerNeeded, job_id: UUID) -> Response:
    """A zip that PEFT loads after unpacking. Takes Range, If-Range, If-None-Match and HEAD."""
    artifact = caller.own_artifact(job_id)
    download = Download(
        name=f"vgid-{job_id}.zip",
        media_type=_ZIP,
        sha256=artifact.sha256,
        size=artifact.size_bytes,
        open=lambda: caller.services.blobs.path_of_artifact(artifact.sha256).open("rb", buffering=0),
    )
    return download.response_to(request)


@router.head("/files/{name}", include_in_schema=False)
@router.get("/files/{name}", summary="Download one file of the adapter", **_documented(_BINARY))
def get_file(request: Request, caller: CallerNeeded, job_id: UUID, name: str) -> Response:
    """One member of the zip by its name in the job's record, with the same headers as the zip itself."""
    artifact = caller.own_artifact(job_id)
    file = next((file for file in artifact.files if file["name"] == name), None)
    if file is None:
        raise NotFound("The artifact has no such file.")
    download = Download(
        name=file["name"],
        media_type=_MEDIA_TYPES.get(Path(file["name"]).suffix, _BINARY),
        sha256=file["sha256"],
        size=file["size"],
        open=_member(caller.services, artifact, file["name"]),
    )
    return download.response_to(request)


def _member(services: Services, artifact: StoredArtifact, name: str) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        # the member keeps the zip's file open until it is closed itself
        with zipfile.ZipFile(services.blobs.path_of_artifact(artifact.sha256)) as archive:
            return archive.open(name)

    return open_member
