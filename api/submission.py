"""Accepting a forget request: everything is checked, then stored, then committed; only then is it announced."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.intake import Submission, read_submission
from api.problems import FieldError, IdempotencyKeyReused, InvalidRequest, RequestInFlight
from api.schemas import SubmitRequest
from api.services import Services
from jobs import repository
from jobs.catalog import Catalog, ModelEntry
from jobs.inputs import JobInputs, seal
from jobs.queue import QueueUnavailable
from jobs.repository import NewJob
from jobs.tables import Job
from vgid_core.config import UnlearnConfig

log = logging.getLogger(__name__)


def accept(
    services: Services, client_id: UUID, idempotency_key: str | None, content_type: str, body: bytes
) -> tuple[Job, bool]:
    """The job for this submission, committed, and whether it existed before (the same key and content).

    Raises a Problem when the request is refused; then nothing is stored.
    """
    submission = read_submission(content_type, body, services.settings)
    job_id = uuid4()
    data_key, wrapped_data_key = services.keyring.new_data_key(job_id)
    new = _new_job(services, submission, job_id, wrapped_data_key, idempotency_key)
    sealed = seal(submission.inputs, data_key)
    try:
        with services.sessions.begin() as s:
            earlier = _earlier_job(s, client_id, new)
            if earlier is not None:
                return earlier, True
            services.blobs.put_inputs(job_id, sealed)
            job = repository.submit(s, client_id, new)
    except Exception:
        committed = _committed_or_cleared(services, client_id, job_id)
        if committed is None:
            raise
        job = committed
    _announce(services, job_id)
    return job, False


def _new_job(
    services: Services, submission: Submission, job_id: UUID, wrapped_data_key: bytes, idempotency_key: str | None
) -> NewJob:
    request, inputs = submission.request, submission.inputs
    entry = _model(services.catalog, request, inputs)
    reference = request.subject_reference
    return NewJob(
        id=job_id,
        model=entry.name,
        config=_config(entry, request).model_dump(mode="json"),
        forget_pairs=len(inputs.forget),
        retain_pairs=None if inputs.retain is None else len(inputs.retain),
        retain_set=_retain_set(entry, request),
        probes={name: len(pairs) for name, pairs in inputs.probes.items()},
        request_hash=services.keyring.keyed_hash("request", submission.canonical),
        wrapped_data_key=wrapped_data_key,
        external_id=request.external_id,
        subject_hash=None if reference is None else services.subject_hash(reference),
        legal_basis=request.legal_basis,
        due_at=request.due_at,
        job_metadata=dict(request.metadata),
        idempotency_key=idempotency_key,
    )


def _model(catalog: Catalog, request: SubmitRequest, inputs: JobInputs) -> ModelEntry:
    entry = catalog.model(request.model)
    if entry is None:
        known = ", ".join(catalog.models)
        raise InvalidRequest.of([FieldError(f"is not a model of this service; known: {known}", ("model",))])
    count = len(inputs.forget) + len(inputs.retain or ()) + sum(map(len, inputs.probes.values()))
    if entry.max_pairs is not None and count > entry.max_pairs:
        detail = f"takes the request over this model's limit of {entry.max_pairs} pairs (forget, retain and probes)"
        raise InvalidRequest.of([FieldError(detail, ("forget",))])
    return entry


def _retain_set(entry: ModelEntry, request: SubmitRequest) -> str | None:
    """The registered set to use, None when the request brings its own pairs. Forgetting without either would harm."""
    if request.retain is not None:
        return None
    known = ", ".join(entry.retain_sets) or "none"
    if request.retain_set is not None:
        if request.retain_set not in entry.retain_sets:
            detail = f"is not a retain set of this model; registered: {known}"
            raise InvalidRequest.of([FieldError(detail, ("retain_set",))])
        return request.retain_set
    if entry.default_retain_set is None:
        detail = (
            "is required: without pairs that must stay known, unlearning damages the rest of the model. "
            f"Send 'retain', or name a 'retain_set' registered for this model; registered: {known}"
        )
        raise InvalidRequest.of([FieldError(detail, ("retain",))])
    return entry.default_retain_set


def _config(entry: ModelEntry, request: SubmitRequest) -> UnlearnConfig:
    try:
        return request.training.apply_to(entry.config)
    except ValidationError as error:
        messages = {str(finding["msg"]).removeprefix("Value error, ") for finding in error.errors(include_input=False)}
    raise InvalidRequest.of([FieldError(message, ("training",)) for message in sorted(messages)])


def _earlier_job(s: Session, client_id: UUID, new: NewJob) -> Job | None:
    if new.idempotency_key is None:
        return None
    if not repository.try_idempotency_lock(s, client_id, new.idempotency_key):
        raise RequestInFlight("A request with this Idempotency-Key is being handled. Try again in a moment.")
    earlier = repository.find_by_idempotency_key(s, client_id, new.idempotency_key)
    if earlier is not None and earlier.request_hash != new.request_hash:
        raise IdempotencyKeyReused(
            "The first request with this Idempotency-Key had another content. Take a new key for a new request.",
            errors=[FieldError("belongs to another request", name="Idempotency-Key")],
        )
    return earlier


def _committed_or_cleared(services: Services, client_id: UUID, job_id: UUID) -> Job | None:
    """What became of a submission that failed: the job if the commit went through although its answer was lost.

    Otherwise the inputs are removed. When the database can't tell either, they stay: without a row nobody has their
    key, and the reaper sweeps them.
    """
    try:
        with services.sessions() as s:
            job = repository.get_job(s, client_id, job_id)
    except SQLAlchemyError:
        return None
    if job is None:
        services.blobs.delete_inputs(job_id)
    return job


def _announce(services: Services, job_id: UUID) -> None:
    try:
        services.queue.publish(job_id)
    except QueueUnavailable as error:
        # The job is committed; the reaper publishes it as soon as the queue is back.
        log.warning("job accepted but not announced", exc_info=error, extra={"fields": {"job": str(job_id)}})
