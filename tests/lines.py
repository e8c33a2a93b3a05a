"""Adapters as a run leaves them in its model's line."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from jobs.endings import NewArtifact
from jobs.lines import releases
from jobs.lines.releases import NewRelease, ReleaseZip
from jobs.tables import Job

BASE = "b" * 64


def new_release(s: Session, job_id: UUID, base_digest: str = BASE, **changes: Any) -> NewRelease:
    """The release of a job that has started from what is current now."""
    job = s.get_one(Job, job_id)
    parent = releases.current(s, job.model, job.line)
    parent_id = parent.id if parent is not None and parent.base_digest == base_digest else None
    values = {"parent_id": parent_id, "adapter_sha256": "c" * 64, "rank": 4, "still_forgotten": {}, "marks": ()}
    return NewRelease(base_digest, **{**values, **changes})


def new_artifact(
    s: Session,
    job_id: UUID,
    evidence: dict[str, Any] | None = None,
    *,
    sha256: str = "a" * 64,
    size: int = 12,
    files: list[dict[str, Any]] | None = None,
    manifest: dict[str, Any] | None = None,
    **release: Any,
) -> NewArtifact:
    """The adapter of that job. Of its release the same zip is handed out, unless another archive is given."""
    made = new_release(s, job_id, **{"archive": ReleaseZip(sha256, size), **release})
    return NewArtifact(sha256, size, files or [], manifest or {}, evidence, made)
