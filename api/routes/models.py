"""The route that lists the models of this service."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from api.openapi import problem_responses
from api.problems import Unauthenticated
from api.routing import Router
from api.services import CallerDep
from jobs.catalog import ModelEntry
from vgid_core.config import UnlearnConfig

router = Router(tags=["models"])


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
