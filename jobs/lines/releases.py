"""A model's line of releases: which one is current, what a run starts from, and how a new one takes its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.lines import forgotten, marks
from jobs.lines.marks import Withheld
from jobs.states import SHARED_LINE
from jobs.tables import Artifact, Job, Release, ReleaseJob, ReleaseState, ReplaySet

# Others' sets that say how far a line has drifted. Neighbours have a target of their own.
_NOT_DRIFT = frozenset({"neighbours"})


class ParentSuperseded(Exception):
    """Another release has become current since the run began. The run must start over from that one."""


@dataclass(frozen=True)
class NewReplaySet:
    """A replay set that is sealed and stored. days: how long it is kept."""

    wrapped_key: bytes
    pairs: int
    days: int


@dataclass(frozen=True)
class ReleaseZip:
    """What is handed out of a release, stored as `BlobStore.put_artifact` returned it. It says nothing of any job."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild takes the place of, None if there was nothing, and the jobs whose people it has forgotten."""

    replaces_id: UUID | None
    holds: Collection[UUID]


@dataclass(frozen=True)
class NewRelease:
    """What a run has made, for its line.

    parent_id: the release that it started from; None for a start from the base. still_forgotten: by earlier job whose
    replay set was checked, whether its people are still forgotten. not_checked: those whose replay set wasn't.
    forgotten_by_replay_set: whether its own people are forgotten by what is to be kept of them, if anything is. marks:
    keyed hashes of its own people. marks_to_agree: of names that count only once an operator agrees. withheld: from
    which sets. replay_set: None if none is kept. rebuilt: None if a request has made it. archive: what is handed out of
    it; None of what can't become current, and of those that only took part in the run.
    """

    base_digest: str
    parent_id: UUID | None
    adapter_sha256: str
    rank: int
    still_forgotten: Mapping[UUID, bool]
    marks: Collection[str] = field(repr=False)
    not_checked: Collection[UUID] = frozenset()
    forgotten_by_replay_set: bool = True
    marks_to_agree: Collection[str] = field(default=(), repr=False)
    withheld: Collection[Withheld] = ()
    replay_set: NewReplaySet | None = None
    rebuilt: Rebuilt | None = None
    archive: ReleaseZip | None = None


def current(s: Session, model: str, line: str = SHARED_LINE) -> Release | None:
    """The line's current release."""
    return s.scalar(select(Release).where(is_current(model, line)))


def is_current(model: str, line: str) -> ColumnElement[bool]:
    """The condition of a Release to be the line's current one."""
    return and_(Release.model == model, Release.line == line, Release.state == ReleaseState.current)


def zip_of(s: Session, release: Release, *, or_of_its_job: bool) -> ReleaseZip | None:
    """The release's zip. or_of_its_job: where it has none, that of the job which made it, with the job's evidence."""
    if release.zip_sha256 is not None and release.zip_bytes is not None:
        return ReleaseZip(release.zip_sha256, release.zip_bytes)
    artifact = s.get(Artifact, release.job_id) if or_of_its_job else None
    return None if artifact is None else ReleaseZip(artifact.sha256, artifact.size_bytes)


@dataclass(frozen=True)
class Held:
    """A job whose people a release holds. checked_in: number of the last release that was checked for it."""

    job_id: UUID
    client_id: UUID
    still_forgotten: bool | None
    checked_in: int


def held_by(s: Session, release_id: UUID) -> list[Held]:
    """The jobs whose people the release holds, with their clients, in the order of their requests."""
    found = (
        select(ReleaseJob.job_id, Job.client_id, ReleaseJob.still_forgotten, ReleaseJob.checked_in)
        .join(Job, Job.id == ReleaseJob.job_id)
        .where(ReleaseJob.release_id == release_id)
        .order_by(Job.created_at, Job.id)
    )
    return [Held(*row) for row in s.execute(found)]


def job_that_forgot(s: Session, client_id: UUID, model: str, subject_hash: str, line: str = SHARED_LINE) -> UUID | None:
    """The client's job about this subject that the line's current release holds, and hasn't lost, or None."""
    found = (
        select(Job.id)
        .join(ReleaseJob, ReleaseJob.job_id == Job.id)
        .join(Release, Release.id == ReleaseJob.release_id)
        .where(is_current(model, line))
        .where(Job.client_id == client_id, Job.subject_hash == subject_hash)
        .where(ReleaseJob.still_forgotten.is_distinct_from(False))
    )
    return s.scalar(found.order_by(Job.created_at.desc()).limit(1))


def replay_sets_of(s: Session, release_id: UUID) -> dict[UUID, bytes]:
    """The wrapped key of each replay set that there is of the release's jobs, by job."""
    kept = (
        select(ReplaySet.job_id, ReplaySet.wrapped_key)
        .join(ReleaseJob, ReleaseJob.job_id == ReplaySet.job_id)
        .where(
            ReleaseJob.release_id == release_id, ReplaySet.wrapped_key.is_not(None), ReplaySet.expires_at > func.now()
        )
        .order_by(ReplaySet.job_id)
    )
    return {job_id: key for job_id, key in s.execute(kept) if key is not None}


def drift_of(evidence: Mapping[str, Any]) -> float | None:
    """The largest drop of a set about others, from the base. None where none was measured."""
    drops = [
        row["value"]
        for row in evidence["figures"]
        if row["figure"] == "everyone_else.drop" and row["set"] not in _NOT_DRIFT
    ]
    return max(drops, default=None)


def lock_parent(s: Session, job: Job, new: NewRelease) -> Release | None:
    """The current release of the job's line, with its row locked.

    Raises ParentSuperseded unless the new one may follow it. One of another base may be followed by the first of a line
    of its own, and any by the rebuild that has found it.
    """
    found = s.scalar(
        select(Release).where(is_current(job.model, job.line)).with_for_update(),
        execution_options={"populate_existing": True},
    )
    if new.rebuilt is not None:
        if (None if found is None else found.id) != new.rebuilt.replaces_id:
            raise ParentSuperseded
        return found
    same_line = found if found is not None and found.base_digest == new.base_digest else None
    if (None if same_line is None else same_line.id) != new.parent_id:
        raise ParentSuperseded
    return found


def add(
    s: Session,
    job: Job,
    new_by_job: Mapping[UUID, NewRelease],
    before: Release | None,
    now: datetime,
    drift: float | None,
    *,
    passed: bool,
) -> Release:
    """Adds the job's release: as the current one if it has passed, else as a candidate.

    new_by_job: what was made, by job: by this one and those that took part in its run. before: the current release, as
    `lock_parent` gave it. Only who has passed is held by later releases, is marked, and leaves a replay set.
    """
    new = new_by_job[job.id]
    if passed and before is not None:
        before.state = ReleaseState.superseded
        before.ended_at = now
        s.flush()  # first: there is one current release at a time
    made = Release(
        model=job.model,
        line=job.line,
        base_digest=new.base_digest,
        number=_next_number(s, job, new.base_digest),
        parent_id=new.parent_id,
        replaces_id=None if before is None else before.id,
        job_id=job.id,
        state=ReleaseState.current if passed else ReleaseState.candidate,
        adapter_sha256=new.adapter_sha256,
        rank=new.rank,
        drift=drift,
        current_at=now if passed else None,
        zip_sha256=None if new.archive is None else new.archive.sha256,
        zip_bytes=None if new.archive is None else new.archive.size_bytes,
    )
    s.add(made)
    s.flush()
    earlier = _earlier(s, new)
    for job_id, was in earlier.items():
        s.add(_held_in(made, job_id, new, was))
    own = {} if new.rebuilt is not None else new_by_job
    for job_id, left in own.items():
        held = passed and (left.forgotten_by_replay_set or None)
        s.add(ReleaseJob(release_id=made.id, job_id=job_id, still_forgotten=held, checked_in=made.number))
    if passed:
        for job_id, left in own.items():
            marks.store(s, job_id, left.marks, left.marks_to_agree, left.withheld)
            _store_replay_set(s, job_id, left, now)
        _tell(s, made, earlier if new.rebuilt is not None else own, before)
        for job_id, was in earlier.items():
            if was is not None and was.still_forgotten and new.still_forgotten.get(job_id) is False:
                transitions.add_event(s, job_id, "release", {"number": made.number, "state": "known_again"})
    return made


def _held_in(made: Release, job_id: UUID, new: NewRelease, was: Held | None) -> ReleaseJob:
    """An earlier job in the release that was made. was: in its parent."""
    held, number = new.still_forgotten.get(job_id), made.number
    if was is None:  # a rebuild has made its replay set a measure, or not
        held = held or None
    elif held is None:
        number = was.checked_in
        held = was.still_forgotten if job_id in new.not_checked else None
    elif was.still_forgotten is None:
        held, number = None, was.checked_in
    return ReleaseJob(release_id=made.id, job_id=job_id, still_forgotten=held, checked_in=number)


def _earlier(s: Session, new: NewRelease) -> dict[UUID, Held | None]:
    """The jobs that the release holds besides those that have made it, each with its place in the parent."""
    if new.rebuilt is not None:
        return dict.fromkeys(new.rebuilt.holds)
    return {} if new.parent_id is None else {each.job_id: each for each in held_by(s, new.parent_id)}


def _tell(s: Session, made: Release, joined: Collection[UUID], before: Release | None) -> None:
    """Tells the clients of those whom the release holds first, and of those whom it no longer holds."""
    s.flush()
    for job_id in joined:
        transitions.add_event(s, job_id, "release", {"number": made.number, "state": "current"})
    held_before = set() if before is None else {each.job_id for each in held_by(s, before.id)}
    for job_id in held_before.intersection(forgotten.not_held(s, made.model, made.id) if held_before else ()):
        transitions.add_event(s, job_id, "release", {"number": made.number, "state": "left_out"})


def _store_replay_set(s: Session, job_id: UUID, new: NewRelease, now: datetime) -> None:
    """The replay set of a job that the current release holds, if one is kept."""
    if new.replay_set is not None:
        kept_until = now + timedelta(days=new.replay_set.days)
        s.add(
            ReplaySet(
                job_id=job_id, wrapped_key=new.replay_set.wrapped_key, pairs=new.replay_set.pairs, expires_at=kept_until
            )
        )


def line_of(s: Session, model: str, line: str = SHARED_LINE) -> Sequence[Release]:
    """All releases of the line, of every base, the newest first."""
    found = select(Release).where(Release.model == model, Release.line == line)
    return s.scalars(found.order_by(Release.created_at.desc())).all()


def _next_number(s: Session, job: Job, base_digest: str) -> int:
    of_line = (Release.model == job.model, Release.line == job.line, Release.base_digest == base_digest)
    return (s.scalar(select(func.max(Release.number)).where(*of_line)) or 0) + 1
