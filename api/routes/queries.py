"""The query parameters of lists and histories."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.identifiers import MAX_METADATA, Instant, Line, MetadataFilter
from api.schemas import EventId, Name
from jobs.job_lists import Sort
from jobs.states import State


class ListQuery(BaseModel):
    """Filters and page of a list.

    There is no `subject_reference`: a query string stays in logs. The Subject-Reference header takes its place.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    state: State | None = None
    model: Name | None = None
    external_id: Line | None = Field(default=None, description="no personal data, please: a URL stays in logs")
    metadata: list[MetadataFilter] = Field(
        default_factory=list,
        max_length=MAX_METADATA,
        description="`KEY=VALUE`; several must all hold, as in `?metadata=region=eu&metadata=team=privacy`. A key that "
        "holds `=` can't be asked for. No personal data, please: a URL stays in logs",
    )
    created_after: Instant | None = Field(default=None, description="at this moment or later")
    created_before: Instant | None = Field(default=None, description="before this moment")
    due_after: Instant | None = Field(default=None, description="due at this moment or later")
    due_before: Instant | None = Field(default=None, description="due before this moment")
    sort: Sort = Field(
        default="-created_at",
        description="`-` for descending; newest first if left out; without `due_at` counts as due after all others",
    )
    total: bool = Field(default=False, description="whether to count all that match; that takes time on long lists")
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="`next_cursor` of the page before"
    )

    @property
    def filters(self) -> dict[str, Any]:
        """What `JobFilter` takes, with its own names."""
        fields = self.model_dump(exclude={"sort", "total", "limit", "cursor"})
        return {**fields, "metadata": [each.split("=", 1) for each in self.metadata]}


class EventsQuery(BaseModel):
    """Which part of a job's history to return."""

    model_config = ConfigDict(hide_input_in_errors=True)

    after: EventId = Field(default=0, description="only events with a greater id")
