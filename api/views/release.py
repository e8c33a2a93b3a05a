"""What clients see of a model's line of releases, and of the replay sets of their own jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.lines.releases import Held, ReleaseZip
from jobs.tables import Release, ReleaseState


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class HeldJob(_View):
    """A job of the client's own, whose people a release holds."""

    job_id: UUID
    still_forgotten: bool | None = Field(
        description="by its replay set, in release `checked_in`; false: the model knows its people again, so ask again "
        "with `repeat`; null: there was no replay set to check by, or one whose answers weren't forgotten when it was "
        "made, so nobody has looked since `checked_in`"
    )
    checked_in: int = Field(description="number of the last release in which it was checked")


class ReleaseView(_View):
    """The adapter to be served for a model. It holds everybody whom the line has forgotten.

    `parent`, `drift`, `requests`, `checked` and `unchecked` tell of other clients' jobs: they are null without the
    right `serve`.
    """

    model: str
    number: int = Field(description="1, 2, ... in the line of this base")
    state: ReleaseState
    base_digest: str = Field(description="of the base that the adapter is for")
    adapter_sha256: str = Field(description="of the weights; this answer's ETag, too")
    rank: int
    created_at: datetime
    own: list[HeldJob] = Field(description="those of the asking client's jobs that it holds")
    not_held: list[UUID] = Field(
        description="the asking client's jobs that have forgotten somebody whom this release doesn't hold: the base is "
        "another one now, or a rebuild left them out. Their people are known again. Ask again, with `repeat`"
    )
    adapter: str = Field(description="path of the adapter, a zip")
    zip_sha256: str | None = Field(
        description="of the zip; its ETag. null: this release is older than such zips, and its adapter is for keys "
        "with the right `serve`"
    )
    zip_bytes: int | None
    parent: int | None = Field(
        default=None, description="number of the release that it started from; null for the base"
    )
    drift: float | None = Field(
        default=None, description="the largest drop of ROUGE-L on a set about others, from the base; null if unmeasured"
    )
    requests: int | None = Field(default=None, description="how many jobs it holds, of all clients")
    checked: int | None = Field(
        default=None, description="how many of them were checked by their replay set, or are new, and are forgotten"
    )
    unchecked: int | None = Field(
        default=None,
        description="how many had no replay set to check by: nobody can say whether they are still forgotten",
    )

    @classmethod
    def of(cls, release: Release, archive: ReleaseZip | None, own: Sequence[Held], not_held: Sequence[UUID]) -> Self:
        """What the client with these jobs sees: nothing about others.

        archive: what it may download. own: its jobs that the release holds. not_held: those that it should.
        """
        columns = ("model", "number", "state", "base_digest", "adapter_sha256", "rank", "created_at")
        return cls(
            **{name: getattr(release, name) for name in columns},
            own=[HeldJob.model_validate(each) for each in own],
            not_held=list(not_held),
            adapter=f"/models/{release.model}/release/adapter",
            zip_sha256=None if archive is None else archive.sha256,
            zip_bytes=None if archive is None else archive.size_bytes,
        )

    def with_others(self, release: Release, parent: int | None, held: Sequence[Held]) -> Self:
        """The view with what is about all jobs that the release holds, for keys with the right `serve`."""
        return self.model_copy(
            update={
                "parent": parent,
                "drift": release.drift,
                "requests": len(held),
                "checked": sum(each.still_forgotten is True for each in held),
                "unchecked": sum(each.still_forgotten is None for each in held),
            }
        )


class ReplaySetView(_View):
    """What is kept of a job: to forget it again with later requests, and to check that it is still forgotten."""

    pairs: int
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = Field(description="when its key was destroyed; from then on nobody can read it")
    deleted_at: datetime | None = Field(description="when its file was deleted")
