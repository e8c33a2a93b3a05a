"""The models of this service, and what is to be served of each: its current release, and the release's adapter."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse

from api.openapi import problem_responses
from api.problems import NoRelease, NotFound, Unauthenticated
from api.routes.artifacts import BINARY, ZIP, documented
from api.routes.downloads import Download, client_has, validator_of
from api.routing import Router
from api.services import Caller, CallerDep
from api.views.release import ReleaseView
from jobs.catalog import ModelEntry
from jobs.lines import forgotten, releases
from jobs.tables import Artifact, Release
from vgid_core.config import UnlearnConfig

router = Router(tags=["models"])

_Model = Annotated[str, Path(description="one of GET /models", max_length=64)]


class ModelView(BaseModel):
    """One model, its settings, and the defaults for a request."""

    name: str
    title: str
    config: UnlearnConfig = Field(description="the settings that a request's `training` changes in part")
    max_pairs: int = Field(description="forget, retain and probes of one request together")
    retain_sets: list[str]
    default_retain_set: str | None = Field(description="taken when a request names none")

    @classmethod
    def of(cls, entry: ModelEntry, service_max_pairs: int) -> Self:
        """The view of `entry` on a service that takes at most `service_max_pairs` pairs in one request."""
        return cls(
            name=entry.name,
            title=entry.title,
            config=entry.config,
            max_pairs=min(entry.max_pairs or service_max_pairs, service_max_pairs),
            retain_sets=list(entry.retain_sets),
            default_retain_set=entry.default_retain_set,
        )


class ModelList(BaseModel):
    """All models."""

    models: list[ModelView]


@router.get(
    "/models", operation_id="list_models", summary="List the models", responses=problem_responses(Unauthenticated)
)
def list_models(caller: CallerDep) -> ModelList:
    """Every model of this service, with its settings and its registered retain sets."""
    caller.client_id()
    max_pairs = caller.services.settings.max_pairs
    return ModelList(models=[ModelView.of(entry, max_pairs) for entry in caller.services.catalog.models.values()])


@router.get(
    "/models/{model}/release",
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
        artifact = s.get_one(Artifact, release.job_id)
        held, not_held = releases.held_by(s, release.id), forgotten.not_held(s, model, release.id, client_id)
    view = ReleaseView.of(release, artifact, parent, held, not_held, client_id)
    headers = validator_of(release.adapter_sha256)
    if client_has(request, release.adapter_sha256):
        return NotModifiedResponse(headers)
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


@router.get(
    "/models/{model}/release/adapter",
    operation_id="download_release",
    summary="Download the current release",
    **documented(ZIP, BINARY),
)
def get_adapter(request: Request, caller: CallerDep, model: _Model) -> Response:
    """A zip that PEFT loads after unpacking, as that of the job that made the release."""
    with caller.session() as (s, _):
        release = _current(caller, s, model)
        artifact = s.get_one(Artifact, release.job_id)
    name = f"vgid-{model}-{release.number}.zip"
    download = Download(name, ZIP, artifact.sha256, artifact.size_bytes)
    return download.file_response(request, caller.services.blobs.path_of_artifact(artifact.sha256))


def _current(caller: Caller, s: Session, model: str) -> Release:
    if caller.services.catalog.model(model) is None:
        raise NotFound("There is no such model.")
    found = releases.current(s, model)
    if found is None:
        raise NoRelease("No release of this model is current: nobody has been forgotten yet, or it was taken back.")
    return found
