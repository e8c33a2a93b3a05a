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
from jobs.catalog import LineKind, ModelEntry
from jobs.clients.access import KeyHolder
from jobs.lines import forgotten, permitted, releases
from jobs.lines.releases import ReleaseZip
from jobs.tables import Release, Right
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
    line: LineKind = Field(
        description="`shared`: all clients of this model have the same releases; `per client`: you have releases of "
        "your own, which hold nobody else's people"
    )

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
            line=entry.line,
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
    """Which adapter is to be served, and which of your jobs it holds. For keys with the right `serve`, and for clients
    with a job in the release; for anybody else there is none. What is about others is for `serve` alone.
    """
    with caller.session() as (s, key):
        release = _current(caller, s, model, key)
        held, not_held = releases.held_by(s, release.id), forgotten.not_held(s, model, release.id, key.client_id)
        own = [each for each in held if each.client_id == key.client_id]
        view = ReleaseView.of(release, _zip_of(s, release, key), own, not_held)
        if Right.serve in key.rights:
            parent = None if release.parent_id is None else s.get_one(Release, release.parent_id).number
            view = view.with_others(release, parent, held)
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
    """A zip that PEFT loads after unpacking: the adapter, a manifest, and a signed statement of what it shows. Nothing
    in it is about a single job. Whoever may see the release may have it.
    """
    with caller.session() as (s, key):
        release = _current(caller, s, model, key)
        archive = _zip_of(s, release, key)
    if archive is None:
        raise _no_release()
    download = Download(f"vgid-{model}-{release.number}.zip", ZIP, archive.sha256, archive.size_bytes)
    return download.file_response(request, caller.services.blobs.path_of_artifact(archive.sha256))


def _current(caller: Caller, s: Session, model: str, key: KeyHolder) -> Release:
    """The current release of the client's line. Raises NotFound for an unknown model, NoRelease if it may not see one.

    One statement reads the release and asks who may see it: no second one tells that there is one for others.
    """
    entry = caller.services.catalog.model(model)
    if entry is None:
        raise NotFound("There is no such model.")
    found = permitted.visible(s, model, entry.line_of(key.client_id), key)
    if found is None:
        raise _no_release()
    return found


def _no_release() -> NoRelease:
    return NoRelease(
        "No release of this model is current that this key may see: one that holds a job of yours, or any with the "
        "right `serve`."
    )


def _zip_of(s: Session, release: Release, key: KeyHolder) -> ReleaseZip | None:
    """What the key may have of the release. One that is older than releases' own zips is in its job's, with the job's
    evidence: that is for `serve` alone.
    """
    return releases.zip_of(s, release, or_of_its_job=Right.serve in key.rights)
