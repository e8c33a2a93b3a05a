"""Taking a release back: the one before is current again, and whom it alone held is known again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.lines import marks
from jobs.lines.releases import current, held_by, is_current
from jobs.lines.replay_sets import end_replay_set
from jobs.states import SHARED_LINE, Kind
from jobs.tables import Job, Release, ReleaseState


def would_return(s: Session, model: str, line: str = SHARED_LINE) -> list[UUID] | None:
    """The jobs whose people are known again if the current release is taken back. None if there is no current one."""
    found = current(s, model, line)
    if found is None:
        return None
    before = _before(s, found)
    kept = set() if before is None else {each.job_id for each in held_by(s, before.id)}
    return [each.job_id for each in held_by(s, found.id) if each.job_id not in kept]


class OtherRelease(Exception):
    """Another release is current by now than the one that was to be taken back."""


def revert(s: Session, model: str, reason: str, release_id: UUID | None = None, line: str = SHARED_LINE) -> int | None:
    """Takes the current release back, for this reason: the one before it is current again. Returns that one's number.

    Whom it alone held is known again, and their clients are told by an event. Their jobs are marked, and neither marks
    nor replay sets of them are kept. But a rebuild is taken back for its own sake: whom it held can be rebuilt again.
    None if there was none before of this base, so that nothing is current. A run that started from it starts over.
    Raises LookupError where there is no current release.

    release_id: the one that is meant. Raises OtherRelease if another one is current.
    """
    found = s.scalar(select(Release).where(is_current(model, line)).with_for_update())
    if found is None:
        raise LookupError("there is no current release")
    if release_id is not None and found.id != release_id:
        raise OtherRelease
    returning = would_return(s, model, line) or []
    now = transitions.database_now(s)
    found.state, found.ended_at, found.reason = ReleaseState.reverted, now, reason
    s.flush()  # first: there is one current release at a time
    rebuilt = s.get_one(Job, found.job_id).kind is Kind.rebuild
    for job_id in returning:
        if not rebuilt:
            s.execute(update(Job).where(Job.id == job_id).values(reverted_at=now))
            marks.drop(s, model, job_id)
            end_replay_set(s, job_id)  # the reaper deletes its file
        transitions.add_event(s, job_id, "release", {"number": found.number, "state": "reverted", "reason": reason})
    before = _before(s, found)
    if before is None:
        return None
    for job_id in {each.job_id for each in held_by(s, before.id)} - {each.job_id for each in held_by(s, found.id)}:
        transitions.add_event(s, job_id, "release", {"number": before.number, "state": "current"})
    before.state, before.ended_at = ReleaseState.current, None
    s.flush()
    return before.number


def _before(s: Session, release: Release) -> Release | None:
    """The release to go back to: the one that it has replaced, if that is for the same base."""
    before = None if release.replaces_id is None else s.get_one(Release, release.replaces_id)
    return before if before is not None and before.base_digest == release.base_digest else None
