"""Who may see a release, and who may measure it.

Whoever may not gets what there is to get where there is no release, by the same statements.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from jobs.clients.access import KeyHolder
from jobs.lines.releases import is_current
from jobs.tables import Job, Mark, Release, ReleaseJob, Right


def visible(s: Session, model: str, line: str, key: KeyHolder) -> Release | None:
    """The line's current release, if the key has the right `serve` or a job of its client is in the release."""
    own = exists().where(
        ReleaseJob.release_id == Release.id, Job.id == ReleaseJob.job_id, Job.client_id == key.client_id
    )
    found = select(Release).where(is_current(model, line))
    return s.scalar(found if Right.serve in key.rights else found.where(own))


def own_photos(s: Session, model: str, line: str, client_id: UUID, photos: Collection[str]) -> bool:
    """Whether each of these photos, given by its mark, is one of a job of the client that the current release holds.

    False for no photos.
    """
    held = (
        select(Mark.mark)
        .join(Job, Job.id == Mark.job_id)
        .join(ReleaseJob, ReleaseJob.job_id == Job.id)
        .join(Release, Release.id == ReleaseJob.release_id)
        .where(is_current(model, line))
        .where(Job.client_id == client_id, Mark.mark.in_(photos))
    )
    return bool(photos) and set(photos) <= set(s.scalars(held))
