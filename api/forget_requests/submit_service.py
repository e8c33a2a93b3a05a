"""Turns a checked request into a committed job: stores its inputs, commits its row, wakes a worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.forget_requests.request_check import CheckedRequest
from api.limits.known_clients import KnownClient
from api.problems import (
    AlreadyForgotten,
    FieldError,
    IdempotencyKeyReused,
    InvalidRequest,
    QuotaExceeded,
    RequestInFlight,
)
from api.schemas import EvaluationRequest, JobRequest, SubmitRequest
from api.services import Services
from api.views.job import job_path
from jobs import repository
from jobs.clients.limits import ClientLimits
from jobs.lines import permitted, releases, replay_sets
from jobs.lines.marks import photo_mark
from jobs.queueing.queue import QueueUnavailable
from jobs.repository import Waiting
from jobs.states import Kind
from jobs.tables import Job, Right

log = logging.getLogger(__name__)

_NOT_YOURS = (
    "is measured with photos of your own jobs that it holds, in 'forget' and in 'probes', and without 'retain'; with "
    "any pairs only by a key with the right `audit`"
)
_RETRY_WAITING_SECONDS = 60  # a job ends in minutes, not in seconds
_RETRY_REPLAY_SETS_SECONDS = 86_400  # replay sets are kept for days
# `_new_job` sets the columns of these fields. Every other field goes to the column of the same name.
_CONVERTED_FIELDS = {
    "model", "forget", "retain", "retain_set", "probes", "training", "targets", "audits", "subject_reference",
    "metadata", "replay_days", "repeat", "release",
}  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """What a job is made of. sealed: the file with its inputs, encrypted with the wrapped key; it may be moved away."""

    job_id: UUID
    client: KnownClient
    idempotency_key: str | None
    checked: CheckedRequest
    sealed: Path
    wrapped_data_key: bytes = field(repr=False)


def is_known(services: Services, client_id: UUID, idempotency_key: str) -> bool:
    """Whether a job was made with this key."""
    with services.read_sessions() as s:
        return repository.find_by_idempotency_key(s, client_id, idempotency_key) is not None


def refuse_without_place(services: Services, client: KnownClient, kind: Kind) -> None:
    """Raises QuotaExceeded where not even the smallest request could wait. Cheap, so it comes before the check."""
    with services.read_sessions() as s:
        waiting = repository.waiting_of(s, client.id)
    _refuse_excess(client.limits, waiting, pairs=1, steps=1 if kind is Kind.unlearn else 0)


def replayed_job(services: Services, client_id: UUID, idempotency_key: str, canonical: str) -> Job:
    """The job that this key made. Raises IdempotencyKeyReused if its request was another one."""
    with services.sessions() as s:
        earlier = _find_earlier_job(s, client_id, idempotency_key, _hash(services, canonical))
    if earlier is None:
        raise RequestInFlight("The job of this Idempotency-Key is being deleted. Try again in a moment.")
    return earlier


def submit_job(services: Services, submission: Submission) -> tuple[Job, bool]:
    """Returns the request's committed job, and whether an earlier request with this key and content made it.

    Raises a Problem when the request is refused. Then nothing is stored.
    """
    client_id, idempotency_key = submission.client.id, submission.idempotency_key
    request_hash = _hash(services, submission.checked.canonical)
    with services.sessions() as s:
        if idempotency_key is not None:
            earlier = _find_earlier_job(s, client_id, idempotency_key, request_hash)
            if earlier is not None:
                return earlier, True
        job = _store_job(services, s, submission, request_hash)
        try:
            s.commit()
        except SQLAlchemyError:
            # The commit may have succeeded, or may still succeed, so the inputs must stay. If it never succeeds, the
            # key of the inputs is lost and the reaper deletes them.
            committed = _find_committed_job(services, client_id, submission.job_id)
            if committed is None:
                raise
            job = committed
    _wake_worker(services, submission.job_id)
    return job, False


def _hash(services: Services, canonical: str) -> str:
    return services.keyring.keyed_hash("request", canonical)


def _store_job(services: Services, s: Session, submission: Submission, request_hash: str) -> Job:
    """Stores the inputs and adds the job's row, uncommitted.

    Raises a Problem, or what the disk or the database raises. Then the inputs are deleted again.
    """
    checked = submission.checked
    _require_adapter(s, submission.client.id, checked.request)
    line = services.line_of(checked.model, submission.client.id)
    _refuse_repetition(services, s, submission, line)
    pairs = checked.forget_pairs + (checked.retain_pairs or 0) + sum(checked.probes.values())
    waiting = repository.lock_waiting(s, submission.client.id)  # until the transaction ends
    _refuse_excess(submission.client.limits, waiting, pairs, checked.weighed_steps)
    _refuse_replay_set(s, submission)
    job = _new_job(services, submission, request_hash, line)
    job.release_id = _release_of(services, s, submission, line)
    try:
        services.blobs.adopt_inputs(submission.job_id, submission.sealed)
        repository.submit(s, job)
        s.flush()  # the database refuses a bad row here, so that the commit has no reason of its own to fail
    except BaseException:
        services.blobs.delete_inputs(submission.job_id)
        raise
    return job


def _require_adapter(s: Session, client_id: UUID, request: JobRequest) -> None:
    """Raises InvalidRequest where an evaluation names a job that has no adapter for its model."""
    if not isinstance(request, EvaluationRequest) or request.adapter_of is None:
        return
    adapter = repository.adapter_of(s, client_id, request.adapter_of)
    if adapter is None:
        detail = "is none of your unlearning jobs"
    elif adapter.sha256 is None:
        detail = "is a job without an adapter: only a job whose training has ended has one"
    elif adapter.model != request.model:
        detail = f"is a job with another model, {adapter.model}"
    else:
        return
    raise InvalidRequest.of([FieldError(detail, ("adapter_of",))])


def _release_of(services: Services, s: Session, submission: Submission, line: str) -> UUID | None:
    """The release that an evaluation measures. Raises InvalidRequest where there is none, or the client may not.

    The refusal is one for all who may not, so that it doesn't tell whether there is a release.
    """
    checked, client = submission.checked, submission.client
    if not isinstance(checked.request, EvaluationRequest) or not checked.request.release:
        return None
    photos = {photo_mark(services.keyring, digest) for digest in checked.photos}
    if Right.audit not in client.rights and (
        checked.retain_pairs is not None or not permitted.own_photos(s, checked.model, line, client.id, photos)
    ):
        raise InvalidRequest.of([FieldError(_NOT_YOURS, ("release",))])
    found = releases.current(s, checked.model, line)
    if found is None:
        raise InvalidRequest.of([FieldError("the model has no release yet", ("release",))])
    return found.id


def _refuse_repetition(services: Services, s: Session, submission: Submission, line: str) -> None:
    """Raises AlreadyForgotten, naming the job, where the current release holds the subject and `repeat` isn't asked."""
    checked = submission.checked
    request = checked.request
    if not isinstance(request, SubmitRequest) or request.repeat or request.subject_reference is None:
        return
    subject = services.subject_hash(request.subject_reference)
    earlier = releases.job_that_forgot(s, submission.client.id, checked.model, subject, line)
    if earlier is not None:
        raise AlreadyForgotten(
            f"{job_path(earlier)} has done it, and the current release holds it. Send `repeat`: true to do it again."
        )


def _replay_days(submission: Submission) -> int | None:
    """How long a replay set is kept; None keeps none."""
    request = submission.checked.request
    if not isinstance(request, SubmitRequest):
        return None
    limits = submission.client.limits
    asked = min(limits.replay_days, limits.max_replay_days) if request.replay_days is None else request.replay_days
    return asked or None


def _refuse_replay_set(s: Session, submission: Submission) -> None:
    """Raises QuotaExceeded if the client's replay sets, with this request's, could hold more pairs than they may.

    How many a replay set holds is known once it is made. Until then it counts as all that its request forgets.
    """
    if _replay_days(submission) is None:
        return
    most = submission.client.limits.replay_pairs
    would_be = replay_sets.kept_pairs(s, submission.client.id) + submission.checked.forget_pairs
    if would_be > most:
        detail = f"At most {most} pairs may be kept in replay sets; with this request they would be up to {would_be}."
        raise QuotaExceeded(
            f"{detail} End a replay set, or send `replay_days`: 0.", retry_after=_RETRY_REPLAY_SETS_SECONDS
        )


def _refuse_excess(limits: ClientLimits, waiting: Waiting, pairs: int, steps: int) -> None:
    """Raises QuotaExceeded where one more job, of these sizes, would be more than may wait."""
    for what, most, would_be in (
        ("jobs", limits.queued_jobs, waiting.jobs + 1),
        ("pairs", limits.queued_pairs, waiting.pairs + pairs),
        ("steps", limits.queued_steps, waiting.steps + steps),
    ):
        if would_be > most:
            detail = f"At most {most} {what} may wait at a time; with this request they would be at least {would_be}."
            raise QuotaExceeded(detail, retry_after=_RETRY_WAITING_SECONDS)


def _new_job(services: Services, submission: Submission, request_hash: str, line: str) -> Job:
    checked = submission.checked
    request = checked.request
    reference = request.subject_reference
    return Job(
        id=submission.job_id,
        client_id=submission.client.id,
        kind=request.kind,
        model=checked.model,
        line=line,
        config=checked.config,
        forget_pairs=checked.forget_pairs,
        retain_pairs=checked.retain_pairs,
        retain_set=checked.retain_set,
        probes=dict(checked.probes),
        planned_steps=checked.weighed_steps,
        subject_hash=None if reference is None else services.subject_hash(reference),
        job_metadata=request.metadata,
        request_hash=request_hash,
        wrapped_data_key=submission.wrapped_data_key,
        idempotency_key=submission.idempotency_key,
        replay_days=_replay_days(submission),
        **request.model_dump(exclude=_CONVERTED_FIELDS),
    )


def _find_earlier_job(s: Session, client_id: UUID, idempotency_key: str, request_hash: str) -> Job | None:
    """The job that this key made. If there is none, reserves the key until the session's transaction ends."""
    if not repository.try_idempotency_lock(s, client_id, idempotency_key):
        raise RequestInFlight("A request with this Idempotency-Key is being handled. Try again in a moment.")
    earlier = repository.find_by_idempotency_key(s, client_id, idempotency_key)
    if earlier is not None and earlier.request_hash != request_hash:
        raise IdempotencyKeyReused(
            "The first request with this Idempotency-Key had another content. Take a new key for a new request.",
            errors=[FieldError("belongs to another request", name="Idempotency-Key")],
        )
    return earlier


def _find_committed_job(services: Services, client_id: UUID, job_id: UUID) -> Job | None:
    """The job, if its commit succeeded although the answer was lost. None if it didn't, or if nobody can tell."""
    try:
        with services.sessions() as s:
            return repository.get_job(s, client_id, job_id)
    except SQLAlchemyError:
        return None


def _wake_worker(services: Services, job_id: UUID) -> None:
    try:
        services.queue.wake()
    except QueueUnavailable as error:
        # The job is committed. The reaper wakes a worker once the queue is back.
        log.warning("job accepted but no worker woken", exc_info=error, extra={"fields": {"job": str(job_id)}})
