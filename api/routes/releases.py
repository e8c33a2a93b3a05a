"""What is to be served of a model: its current release, and the release's adapter."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from starlette.responses import Response

from api.openapi import problem_responses
from api.problems import NoRelease, NotFound, Unauthenticated
from api.routes.artifacts import BINARY, ZIP, documented
from api.routes.downloads import Download
from api.routing import Router
from api.services import Caller, CallerDep
from api.views.release import ReleaseView
from jobs import releases
from jobs.tables import Artifact, Release

router = Router(prefix="/models/{model}/release", tags=["models"])

_Model = Annotated[str, Path(description="one of GET /models", max_length=64)]


@router.get(
    "",
    operation_id="get_release",
    summary="The current release of a model",
    response_model=ReleaseView,
    responses={
        200: {"headers": {"ETag": {"description": "the adapter's sha256", "schema": {"type": "string"}}}},
        304: {"description": "If-None-Match names the ETag: it is still the current one"},
        **problem_responses(Unauthenticated, NotFound, NoRelease),
    },
)
def get_release(request: Request, caller: CallerDep, model: _Model) -> Response:
    """Which adapter is to be served, what it holds, and how far it has drifted from the base."""
    with caller.session() as (s, client_id):
        release = _current(caller, s, model)
        parent = None if release.parent_id is None else s.get_one(Release, release.parent_id).number
        view = ReleaseView.of(release, parent, releases.held_by(s, release.id), client_id)
    etag = f'"{release.adapter_sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


@router.get(
    "/adapter", operation_id="download_release", summary="Download the current release", **documented(ZIP, BINARY)
)
def get_adapter(request: Request, caller: CallerDep, model: _Model) -> Response:
    """A zip that PEFT loads after unpacking, as that of the job that made the release."""
    with caller.session() as (s, _):
        release = _current(caller, s, model)
        artifact = s.get_one(Artifact, release.job_id)
    name = f"vgid-{model}-{release.number}.zip"
    download = Download(name, ZIP, artifact.sha256, artifact.size_bytes)
    return download.file_response(request, caller.services.blobs.path_of_artifact(artifact.sha256))


def _current(caller: Caller, s: Any, model: str) -> Release:
    if caller.services.catalog.model(model) is None:
        raise NotFound("There is no such model.")
    found = releases.current(s, model)
    if found is None:
        raise NoRelease("Nobody has been forgotten by this model yet, so there is no release.")
    return found
