"""The models that can be asked to forget."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.documentation import problems
from api.problems import Unauthenticated
from api.services import CallerNeeded
from jobs.catalog import ModelEntry
from vgid_core.config import UnlearnConfig

router = APIRouter(tags=["models"])


class ModelView(BaseModel):
    """One model and what a request for it may leave out."""

    name: str
    title: str
    config: UnlearnConfig = Field(description="the settings that a request's `training` changes in part")
    max_pairs: int = Field(description="forget, retain and probes of one request together")
    retain_sets: list[str]
    default_retain_set: str | None = Field(description="taken when a request names none")

    @classmethod
    def of(cls, entry: ModelEntry, most_pairs: int) -> Self:
        """The view of `entry` on a service that takes at most `most_pairs`."""
        return cls(
            name=entry.name,
            title=entry.title,
            config=entry.config,
            max_pairs=min(entry.max_pairs or most_pairs, most_pairs),
            retain_sets=list(entry.retain_sets),
            default_retain_set=entry.default_retain_set,
        )


class ModelList(BaseModel):
    """All models."""

    models: list[ModelView]


@router.get("/models", summary="List the models", responses=problems(Unauthenticated))
def list_models(caller: CallerNeeded) -> ModelList:
    """Every model of this service, with its settings and its registered retain sets."""
    caller.client_id()
    most = caller.services.settings.max_pairs
    return ModelList(models=[ModelView.of(entry, most) for entry in caller.services.catalog.models.values()])
