"""Marks: keyed hashes of photos and names of the forgotten; and what they take out of the registered sets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from jobs.states import SHARED_LINE, Kind
from jobs.storage.crypto import Keyring
from jobs.tables import Client, Job, Mark, WithheldPairs
from vgid_core.data.text_normalization import normalized

# Of a set, withheld by one job. An operator should look at what is above.
MUCH = 0.05


@dataclass(frozen=True)
class Withheld:
    """How much of a registered set a job withholds. place: in the catalog. pairs: about its people.

    to_agree: further ones, by names that nobody has confirmed. of: all pairs of the set.
    """

    place: str
    pairs: int
    to_agree: int
    of: int

    @property
    def is_much(self) -> bool:
        """Whether an operator should look at it."""
        return self.pairs > MUCH * self.of


class WithheldByJob(NamedTuple):
    """What a job withholds of one set, and whose job it is."""

    job_id: UUID
    client: str
    finished_at: datetime | None
    withheld: Withheld


def photo_mark(keyring: Keyring, digest: str) -> str:
    """The mark of the photo whose bytes have this sha256."""
    return keyring.keyed_hash("mark/photo", digest)


def name_mark(keyring: Keyring, name: str) -> str:
    """The mark of a name, however it is capitalised and spaced."""
    return keyring.keyed_hash("mark/name", normalized(name))


def store(
    s: Session, job_id: UUID, marks: Collection[str], to_agree: Collection[str], withheld: Collection[Withheld]
) -> None:
    """Stores a job's marks: those that count, and those that count once an operator agrees."""
    s.add_all(Mark(job_id=job_id, mark=mark) for mark in sorted(set(marks)))
    s.add_all(Mark(job_id=job_id, mark=mark, in_force=False) for mark in sorted(set(to_agree) - set(marks)))
    found = [each for each in withheld if each.pairs or each.to_agree]
    s.add_all(
        WithheldPairs(job_id=job_id, place=each.place, pairs=each.pairs, to_agree=each.to_agree, of=each.of)
        for each in found
    )


def withheld_by_job(s: Session, model: str, line: str = SHARED_LINE) -> Sequence[WithheldByJob]:
    """What each job of the line withholds of each registered set, by set, the largest share first."""
    rows = s.execute(
        select(WithheldPairs, Job.id, Client.name, Job.finished_at)
        .join(Job, Job.id == WithheldPairs.job_id)
        .join(Client, Client.id == Job.client_id)
        .where(Job.model == model, Job.line == line)
        .order_by(WithheldPairs.place, WithheldPairs.pairs.desc(), Job.created_at, Job.id)
    ).all()
    return [
        WithheldByJob(job_id, client, finished_at, Withheld(row.place, row.pairs, row.to_agree, row.of))
        for row, job_id, client, finished_at in rows
    ]


def drop(s: Session, model: str, job_id: UUID) -> bool:
    """Drops all marks of a job: sets about others teach its people again. False if the model's job has none.

    Its release and its replay set stay, and so do other jobs' marks.
    """
    if not _is_of(s, model, job_id):
        return False
    s.execute(delete(WithheldPairs).where(WithheldPairs.job_id == job_id))
    return bool(s.execute(delete(Mark).where(Mark.job_id == job_id).returning(Mark.mark)).all())


def agree(s: Session, model: str, job_id: UUID) -> bool:
    """Lets all names of a job count. False if none waits for that."""
    if not _is_of(s, model, job_id):
        return False
    waiting = update(Mark).where(Mark.job_id == job_id, Mark.in_force.is_(False)).values(in_force=True)
    agreed = s.execute(waiting.returning(Mark.mark)).all()
    s.execute(
        update(WithheldPairs)
        .where(WithheldPairs.job_id == job_id)
        .values(pairs=WithheldPairs.pairs + WithheldPairs.to_agree, to_agree=0)
    )
    return bool(agreed)


def _is_of(s: Session, model: str, job_id: UUID) -> bool:
    found = select(Job.id).where(Job.id == job_id, Job.model == model, Job.kind == Kind.unlearn)
    return s.scalar(found) is not None
