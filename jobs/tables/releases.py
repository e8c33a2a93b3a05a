"""A model's line of releases: which adapter holds whose forgetting, and the replay sets that keep it checkable."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobs.tables.base import Base, text_enum


class ReleaseState(StrEnum):
    """Where a release stands in its line."""

    candidate = "candidate"  # made, and not passed: nobody serves it
    current = "current"  # what is to be served
    superseded = "superseded"  # another one has taken its place
    reverted = "reverted"  # an operator has taken it back


class Release(Base):
    """One adapter of a model's line. It holds everybody whom the line has forgotten up to it.

    line: whose it is, as of its job. job_id: the job that has made it. parent_id: the release that it started from;
    null for a start from the base. replaces_id: the one that was current before it, to which a rollback goes back if it
    is of the same base.
    base_digest: of the model that it is for; another base begins another line, whose numbers begin at 1.
    adapter_sha256: of the weights. drift: the largest drop of a set about others, from the base; null if unmeasured.
    zip_sha256, zip_bytes: what is handed out of it, which says nothing of any job; null of a candidate, and of one that
    is older than these columns.
    """

    __tablename__ = "releases"
    __table_args__ = (
        UniqueConstraint("model", "line", "base_digest", "number"),
        CheckConstraint("number >= 1", name="number_range"),
        CheckConstraint(
            "(state IN ('current', 'superseded', 'reverted')) = (current_at IS NOT NULL)", name="was_current"
        ),
        CheckConstraint("(state IN ('superseded', 'reverted')) = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("(state = 'reverted') = (reason IS NOT NULL)", name="reason_when_reverted"),
        CheckConstraint("(zip_sha256 IS NULL) = (zip_bytes IS NULL)", name="zip_whole"),
        # Whatever races with whatever: a line has one current release.
        Index("uq_releases_current", "model", "line", unique=True, postgresql_where=text("state = 'current'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    model: Mapped[str]
    line: Mapped[str] = mapped_column(server_default=text("''"))
    base_digest: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("releases.id"))
    replaces_id: Mapped[UUID | None] = mapped_column(ForeignKey("releases.id"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    state: Mapped[ReleaseState] = mapped_column(text_enum(ReleaseState))
    adapter_sha256: Mapped[str] = mapped_column(String(64))
    rank: Mapped[int]
    drift: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    current_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]  # why an operator has taken it back
    zip_sha256: Mapped[str | None] = mapped_column(String(64))
    zip_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ReleaseJob(Base):
    """A job whose people a release holds.

    still_forgotten: by its replay set, when it was checked last; null where there is none to check by, or one that is
    no measure: its people weren't forgotten by it when it was made. checked_in: number of the last release of its line
    for which it was.
    """

    __tablename__ = "release_jobs"
    __table_args__ = (Index("ix_release_jobs_job_id", "job_id"),)

    release_id: Mapped[UUID] = mapped_column(ForeignKey("releases.id"), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    still_forgotten: Mapped[bool | None]
    checked_in: Mapped[int]


class ReplaySet(Base):
    """What a client lets the service keep of a job, sealed: to forget it again with later requests, and to check it.

    The sealed file is in the blob store. It can't be read any more once `ended_at` has dropped its key, and is gone at
    `deleted_at`. receipt: of that, signed, in a DSSE envelope.
    """

    __tablename__ = "replay_sets"
    __table_args__ = (
        CheckConstraint("(ended_at IS NULL) = (wrapped_key IS NOT NULL)", name="key_until_end"),
        CheckConstraint("deleted_at IS NULL OR ended_at IS NOT NULL", name="deleted_after_end"),
        CheckConstraint("receipt IS NULL OR deleted_at IS NOT NULL", name="receipt_after_deletion"),
        Index("ix_replay_sets_expires_at", "expires_at", postgresql_where=text("ended_at IS NULL")),
        Index(
            "ix_replay_sets_unfinished", "ended_at", postgresql_where=text("ended_at IS NOT NULL AND receipt IS NULL")
        ),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    wrapped_key: Mapped[bytes | None]
    pairs: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    receipt: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class Mark(Base):
    """Keyed hashes of somebody forgotten: of each photo, and of the name where the pairs had one.

    They keep retain sets that still hold that person from teaching the person again. They say nothing without the
    installation's secret key. in_force: a name that neither the base nor the set itself confirms counts only once an
    operator agrees, or anybody could take anybody out of everybody's sets.
    """

    __tablename__ = "marks"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    mark: Mapped[str] = mapped_column(String(64), primary_key=True)
    in_force: Mapped[bool] = mapped_column(default=True, server_default=text("true"))


class WithheldPairs(Base):
    """How many pairs of one registered set a job's marks withhold.

    place: the set's in the catalog. pairs: about the job's people. to_agree: further ones, by marks that aren't in
    force. of: all pairs of the set, when the job ended.
    """

    __tablename__ = "withheld_pairs"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    place: Mapped[str] = mapped_column(primary_key=True)
    pairs: Mapped[int]
    to_agree: Mapped[int]
    of: Mapped[int]
