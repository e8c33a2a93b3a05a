"""Turns a forget request into a committed job: checks it, stores its inputs, commits its row, wakes a worker."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.forget_requests.request_parsing import ParsedRequest, parse_request
from api.problems import FieldError, IdempotencyKeyReused, InvalidRequest, RequestInFlight
from api.schemas import SubmitRequest
from api.services import Services
from jobs import repository
from jobs.catalog import Catalog, ModelEntry
from jobs.queue import QueueUnavailable
from jobs.storage.inputs import JobInputs, seal
from jobs.tables import Job
from vgid_core.config import TrainingOverrides, UnlearnConfig

log = logging.getLogger(__name__)

# `_new_job` sets the columns of these fields. Every other field goes to the column of the same name.
_CONVERTED_FIELDS = {
    "model", "forget", "retain", "retain_set", "probes", "training", "subject_reference", "metadata",
}  # fmt: skip


def submit_job(
    services: Services, client_id: UUID, idempotency_key: str | None, content_type: str, body: bytes
) -> tuple[Job, bool]:
    """Returns the request's committed job, and whether an earlier request with this key and content made it.

    Raises a Problem when the request is refused. Then nothing is stored.
    """
    parsed = parse_request(content_type, body, services.settings)
    request_hash = services.keyring.keyed_hash("request", parsed.canonical)
    with services.sessions() as s:
        # Before the catalog is asked: a replayed request is answered even if its model has left the catalog since.
        if idempotency_key is not None:
            earlier = _find_earlier_job(s, client_id, idempotency_key, request_hash)
            if earlier is not None:
                return earlier, True
        job = _store_job(services, s, client_id, parsed, request_hash, idempotency_key)
        job_id = job.id
        try:
            s.commit()
        except SQLAlchemyError:
            # The commit may have succeeded, or may still succeed, so the inputs must stay. If it never succeeds, the
            # key of the inputs is lost and the reaper deletes them.
            committed = _find_committed_job(services, client_id, job_id)
            if committed is None:
                raise
            job = committed
    _publish(services, job_id)
    return job, False


def _store_job(
    services: Services,
    s: Session,
    client_id: UUID,
    parsed: ParsedRequest,
    request_hash: str,
    idempotency_key: str | None,
) -> Job:
    """Stores the inputs and adds the job's row, uncommitted.

    Raises a Problem, or what the disk or the database raises. Then the inputs are deleted again.
    """
    job_id = uuid4()
    data_key, wrapped_data_key = services.keyring.new_data_key(job_id)
    job = _new_job(services, client_id, parsed, job_id, wrapped_data_key, request_hash, idempotency_key)
    sealed = seal(parsed.inputs, data_key)
    try:
        services.blobs.put_inputs(job_id, sealed)
        repository.submit(s, job)
        s.flush()  # the database refuses a bad row here, so that the commit has no reason of its own to fail
    except BaseException:
        services.blobs.delete_inputs(job_id)
        raise
    return job


def _new_job(
    services: Services,
    client_id: UUID,
    parsed: ParsedRequest,
    job_id: UUID,
    wrapped_data_key: bytes,
    request_hash: str,
    idempotency_key: str | None,
) -> Job:
    request, inputs = parsed.request, parsed.inputs
    entry = _find_model(services.catalog, request, inputs)
    reference = request.subject_reference
    return Job(
        id=job_id,
        client_id=client_id,
        model=entry.name,
        config=_resolve_config(entry, request).model_dump(mode="json"),
        forget_pairs=len(inputs.forget),
        retain_pairs=None if inputs.retain is None else len(inputs.retain),
        retain_set=_choose_retain_set(entry, request),
        probes={name: len(pairs) for name, pairs in inputs.probes.items()},
        subject_hash=None if reference is None else services.subject_hash(reference),
        job_metadata=request.metadata,
        request_hash=request_hash,
        wrapped_data_key=wrapped_data_key,
        idempotency_key=idempotency_key,
        **request.model_dump(exclude=_CONVERTED_FIELDS),
    )


def _find_model(catalog: Catalog, request: SubmitRequest, inputs: JobInputs) -> ModelEntry:
    entry = catalog.model(request.model)
    if entry is None:
        known = ", ".join(catalog.models)
        raise InvalidRequest.of([FieldError(f"is not a model of this service; known: {known}", ("model",))])
    count = len(inputs.forget) + len(inputs.retain or ()) + sum(map(len, inputs.probes.values()))
    if entry.max_pairs is not None and count > entry.max_pairs:
        detail = f"takes the request over this model's limit of {entry.max_pairs} pairs (forget, retain and probes)"
        raise InvalidRequest.of([FieldError(detail, ("forget",))])
    return entry


def _choose_retain_set(entry: ModelEntry, request: SubmitRequest) -> str | None:
    """The name of the registered set to use, or None when the request brings retain pairs of its own."""
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


def _resolve_config(entry: ModelEntry, request: SubmitRequest) -> UnlearnConfig:
    try:
        return request.training.apply_to(entry.config)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False, include_input=False)
    errors = {
        (_request_field(finding["loc"]), str(finding["msg"]).removeprefix("Value error, ")) for finding in findings
    }
    raise InvalidRequest.of([FieldError(message, loc) for loc, message in sorted(errors)])


def _request_field(config_loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The request's field that set the value at `config_loc` of the resolved settings; `training` if several did."""
    return "training", *[part for part in map(str, config_loc) if part in TrainingOverrides.model_fields][:1]


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


def _publish(services: Services, job_id: UUID) -> None:
    try:
        services.queue.publish(job_id)
    except QueueUnavailable as error:
        # The job is committed. The reaper publishes it once the queue is back.
        log.warning("job accepted but not published", exc_info=error, extra={"fields": {"job": str(job_id)}})
