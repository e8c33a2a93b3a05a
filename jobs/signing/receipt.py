"""Deletion receipts: what of a job was deleted when, signed. Workers sign them, the API shows them.

The API deletes uploads too, of jobs that are cancelled while they wait, and has no key. So one place signs all
receipts: each round of a worker's housekeeping.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from jobs.database import SessionFactory
from jobs.signing.keys import private_key
from jobs.tables import Artifact, Job, ReplaySet
from vgid_verify.names import DELETION_RECEIPT, SIGNED_AT
from vgid_verify.signing import sign_statement

_BATCH = 500
_RECORD = "the job's record: times, counts, settings, history, figures, and the references that you sent"
_ADAPTER = "the adapter, its manifest and its statements"


def sign_receipts(sessions: SessionFactory, root: Path | None) -> list[UUID]:
    """Signs the receipts of deletions that have none yet, of uploads and of replay sets, some hundred at a time.

    Returns the jobs. Raises SigningKeyMissing where one is due and no key can sign.
    """
    return [*_sign(sessions, root, Job, _uploads_due()), *_sign(sessions, root, ReplaySet, _replay_sets_due())]


def _uploads_due() -> Select[Any, Any]:
    has_artifact = exists().where(Artifact.job_id == Job.id)
    due = select(Job, has_artifact).where(Job.inputs_deleted_at.is_not(None), Job.receipt.is_(None))
    return due.order_by(Job.inputs_deleted_at)


def _replay_sets_due() -> Select[Any, Any]:
    due = (
        select(ReplaySet, Job)
        .join(Job, Job.id == ReplaySet.job_id)
        .where(ReplaySet.deleted_at.is_not(None), ReplaySet.receipt.is_(None))
    )
    return due.order_by(ReplaySet.ended_at)


def _sign(
    sessions: SessionFactory, root: Path | None, of: type[Job] | type[ReplaySet], due: Select[Any, Any]
) -> list[UUID]:
    """Signs what is due, each row's first being what the receipt is written to."""
    signed = []
    with sessions.begin() as s:
        rows = s.execute(due.limit(_BATCH).with_for_update(skip_locked=True, of=of)).all()
        if not rows:
            return []
        key, now = private_key(s, root)
        for deleted, beside in rows:
            job_id = deleted.id if isinstance(deleted, Job) else deleted.job_id
            made = _predicate(deleted, beside) if isinstance(deleted, Job) else _replay_set_predicate(deleted, beside)
            predicate = made | {SIGNED_AT: now.isoformat()}
            deleted.receipt = sign_statement(_subjects(job_id), DELETION_RECEIPT, predicate, key.statements)
            if isinstance(deleted, Job):
                flag_modified(deleted, "updated_at")  # a receipt is no change of the job
            signed.append(job_id)
    return signed


def receipt_of(s: Session, job_id: UUID) -> dict[str, Any] | None:
    """The job's receipt as a DSSE envelope, None as long as there is none."""
    return s.scalar(select(Job.receipt).where(Job.id == job_id))


def _predicate(job: Job, has_artifact: bool) -> dict[str, Any]:
    assert job.inputs_deleted_at is not None
    assert job.finished_at is not None
    return {
        "job": str(job.id),
        "state": job.state.value,
        "pairs": {"forget": job.forget_pairs, "retain": job.retain_pairs, "probes": dict(job.probes)},
        "deleted": [
            {
                "what": "the key of the uploads",
                "at": job.finished_at.isoformat(),
                "how": "its stored form, itself encrypted, was set to nothing in the transaction that ended the job",
            },
            {
                "what": "the uploaded photos, questions and answers",
                "at": job.inputs_deleted_at.isoformat(),
                "how": "the one file that held them, encrypted with that key (AES-256-GCM), was deleted",
            },
        ],
        "remains": [_RECORD, _ADAPTER] if has_artifact else [_RECORD],
    }


def _replay_set_predicate(replay_set: ReplaySet, job: Job) -> dict[str, Any]:
    assert replay_set.ended_at is not None
    assert replay_set.deleted_at is not None
    return {
        "job": str(job.id),
        "state": job.state.value,
        "pairs": {"replay_set": replay_set.pairs},
        "deleted": [
            {
                "what": "the replay set's key",
                "at": replay_set.ended_at.isoformat(),
                "how": "its stored form, itself encrypted, was set to nothing",
            },
            {
                "what": "the replay set: photos, questions and answers that were kept of the request",
                "at": replay_set.deleted_at.isoformat(),
                "how": "the one file that held them, encrypted with that key (AES-256-GCM), was deleted",
            },
        ],
        "remains": [_RECORD, _ADAPTER],
    }


def _subjects(job_id: UUID) -> dict[str, str]:
    subject = f"urn:uuid:{job_id}"
    return {subject: hashlib.sha256(subject.encode()).hexdigest()}
