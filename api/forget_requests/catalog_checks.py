"""What the catalog says to a request: its model, its retain set, its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from api.forget_requests.image_resolver import pair_sets
from api.problems import FieldError, InvalidRequest
from api.schemas import JobRequest, SubmitRequest
from jobs.catalog import Catalog, ModelEntry
from jobs.states import Kind
from vgid_core.config import AuditLevel, EvaluationConfig, TrainingOverrides, UnlearnConfig


@dataclass(frozen=True)
class InCatalog:
    """What the catalog gives a request. retain_set: None where the model has none."""

    entry: ModelEntry
    retain_set: str | None
    config: UnlearnConfig


def find_model(catalog: Catalog, request: JobRequest) -> ModelEntry:
    """The request's model. Raises InvalidRequest for an unknown one, or more pairs than it takes."""
    entry = catalog.model(request.model)
    if entry is None:
        known = ", ".join(catalog.models)
        raise InvalidRequest.of([FieldError(f"is not a model of this service; known: {known}", ("model",))])
    count = sum(len(pairs) for _, pairs in pair_sets(request))
    if entry.max_pairs is not None and count > entry.max_pairs:
        detail = f"takes the request over this model's limit of {entry.max_pairs} pairs (forget, retain and probes)"
        raise InvalidRequest.of([FieldError(detail, ("forget",))])
    return entry


def choose_retain_set(entry: ModelEntry, request: JobRequest) -> str | None:
    """The name of the registered set to use, whatever the request brings; None where the model has none."""
    known = ", ".join(entry.retain_sets) or "none"
    if request.retain_set is not None:
        if request.retain_set not in entry.retain_sets:
            detail = f"is not a retain set of this model; registered: {known}"
            raise InvalidRequest.of([FieldError(detail, ("retain_set",))])
        return request.retain_set
    if entry.default_retain_set is None and entry.retain_sets:
        raise InvalidRequest.of([FieldError(f"is required: name one of this model's: {known}", ("retain_set",))])
    if entry.default_retain_set is None and request.retain is None:
        detail = "is required: this model has no retain set, and without pairs that must stay known it is damaged"
        raise InvalidRequest.of([FieldError(detail, ("retain",))])
    return entry.default_retain_set


def resolve_config(entry: ModelEntry, request: JobRequest) -> UnlearnConfig:
    """The model's settings with those of the request. Raises InvalidRequest where they don't go together."""
    own = entry.config
    errors = _looser(own, request)
    if errors:
        raise InvalidRequest.of(errors)
    verdict = own.verdict.model_copy(update=request.targets.given)
    audited = own.with_audits(request.audits or _own_level(own, request))
    config = audited.model_copy(update={"verdict": verdict})
    if not isinstance(request, SubmitRequest):
        return config
    try:
        return request.training.apply_to(config)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False, include_input=False)
    unfit = {
        (_request_field(finding["loc"]), str(finding["msg"]).removeprefix("Value error, ")) for finding in findings
    }
    raise InvalidRequest.of([FieldError(message, loc) for loc, message in sorted(unfit)])


def _own_level(own: UnlearnConfig, request: JobRequest) -> AuditLevel:
    """The model's own level of audits. An evaluation has some in any case: it would find nothing without them."""
    without = own.evaluation.audits == "none" and request.kind is Kind.evaluate
    return EvaluationConfig().audits if without else own.evaluation.audits


def _looser(own: UnlearnConfig, request: JobRequest) -> list[FieldError]:
    """An error for each target that allows more than the model's own, or that no audit would measure, and for a lower
    level of audits.
    """
    errors = [
        FieldError(f"can only be tightened: this model's is {getattr(own.verdict, name)}", ("targets", name))
        for name, value in request.targets.given.items()
        if value > getattr(own.verdict, name)
    ]
    levels = get_args(AuditLevel)
    if request.audits is not None and levels.index(request.audits) < levels.index(own.evaluation.audits):
        errors.append(FieldError(f"can't be lower than this model's, which is {own.evaluation.audits}", ("audits",)))
    if request.targets.given and (request.audits or _own_level(own, request)) == "none":
        errors.append(FieldError("need audits, and this model has none: ask for some with 'audits'", ("targets",)))
    return errors


def _request_field(config_loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The request's field that set the value at `config_loc` of the resolved settings; `training` if several did."""
    return "training", *[part for part in map(str, config_loc) if part in TrainingOverrides.model_fields][:1]
