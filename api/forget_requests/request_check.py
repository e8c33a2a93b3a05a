"""Everything that is checked before a request is accepted, in a process of its own: it may be killed at any moment."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from api.forget_requests.catalog_checks import InCatalog, choose_retain_set, find_model, resolve_config
from api.forget_requests.check_meter import CheckMeter
from api.forget_requests.image_resolver import ImageResolver
from api.forget_requests.images import DecodeImage, ImageLimits
from api.forget_requests.request_parsing import parse_request
from api.forget_requests.spool import SpooledBody
from api.forget_requests.text_check import check_texts
from api.problems import FieldError, InvalidRequest
from api.schemas import JobRequest, SubmitRequest
from jobs.catalog import Catalog
from jobs.clients.limits import ClientLimits
from jobs.settings import Settings
from jobs.states import Kind
from jobs.storage.inputs import JobInputs, seal
from vgid_core.data.pairs import EncodedImage, Pair


@dataclass(frozen=True)
class CheckLimits:
    """What a check may take.

    max_priority, max_replay_days: the client's rights. seconds: from its begin to its end. memory_bytes: of address
    space, the interpreter included.
    """

    max_pairs: int
    max_priority: int
    max_replay_days: int
    seconds: float
    memory_bytes: int
    images: ImageLimits

    @classmethod
    def of(cls, settings: Settings, client: ClientLimits) -> Self:
        """The limits of this installation and this client."""
        images = ImageLimits(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_request_pixels=settings.max_request_pixels,
            max_seconds=settings.max_image_seconds,
            formats=settings.image_formats,
        )
        return cls(
            max_pairs=settings.max_pairs,
            max_priority=client.max_priority,
            max_replay_days=client.max_replay_days,
            seconds=settings.check_seconds,
            memory_bytes=settings.check_memory_bytes,
            images=images,
        )


@dataclass(frozen=True)
class UncheckedRequest:
    """A request as it has arrived, and where its check leaves something.

    schema: what it is to be. sealed: receives the inputs, encrypted with `data_key`. notes: receives what
    `CheckNotes` reads.
    """

    schema: type[JobRequest]
    content_type: str
    body: SpooledBody
    limits: CheckLimits
    catalog: Catalog
    data_key: bytes = field(repr=False)
    sealed: Path
    notes: Path


@dataclass(frozen=True)
class CheckedRequest:
    """A request that can become a job, without its pairs: these lie encrypted where `UncheckedRequest.sealed` says.

    request: has empty sets. config: the settings in full. weighed_steps: the steps at the default batch sizes, which
    quotas and expected seconds go by. canonical: equal for two requests with the same content,
    whatever their encoding; it is hashed for idempotency. photos: sha256 of each image of an evaluation's forget
    set and probes, to be compared and not to be stored; empty for any other request.
    """

    request: JobRequest
    model: str
    config: dict[str, Any]
    forget_pairs: int
    retain_pairs: int | None
    retain_set: str | None
    probes: Mapping[str, int]
    steps: int
    weighed_steps: int
    canonical: str = field(repr=False)
    photos: frozenset[str] = field(default=frozenset(), repr=False)


def canonical_text_of(unchecked: UncheckedRequest, _meter: CheckMeter) -> str:
    """`CheckedRequest.canonical` of a request that was accepted before. Decodes no image, and seals nothing.

    Raises a Problem.
    """
    request, resolver = _read(unchecked)
    return _canonical_text(request, resolver.resolve())


def check_request(unchecked: UncheckedRequest, meter: CheckMeter) -> CheckedRequest:
    """Checks all that needs no database, from what is cheap to what is not, and seals the inputs.

    Raises a Problem, or OSError.
    """
    checked, _, inputs = accept(unchecked, meter, EncodedImage.decode)
    sealed = os.open(unchecked.sealed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(sealed, "wb") as file:
        file.write(seal(inputs, unchecked.data_key))
        file.flush()
        os.fsync(file.fileno())
    return checked


def accept(
    unchecked: UncheckedRequest, meter: CheckMeter, decode: DecodeImage
) -> tuple[CheckedRequest, InCatalog, JobInputs]:
    """The checked request, what the catalog gives it, and its inputs, not yet sealed. Raises a Problem.

    decode: called once with each different image; raises DataError for one that isn't readable.
    """
    request, resolver = _read(unchecked)
    _check_rights(request, unchecked.limits)
    entry = find_model(unchecked.catalog, request)
    found = InCatalog(entry, choose_retain_set(entry, request), resolve_config(entry, request))
    check_texts(request, entry.path)
    resolver.check(meter.decoding, decode)
    meter.decoded()
    inputs = resolver.resolve()
    _check_retain_differs(inputs)
    training, forget_pairs = found.config.training, len(inputs.forget)
    checked = CheckedRequest(
        request=request.model_copy(update={"forget": (), "retain": None, "probes": {}}),
        model=entry.name,
        config=found.config.model_dump(mode="json"),
        forget_pairs=forget_pairs,
        retain_pairs=None if inputs.retain is None else len(inputs.retain),
        retain_set=found.retain_set,
        probes={name: len(pairs) for name, pairs in inputs.probes.items()},
        steps=training.steps_for(forget_pairs) if request.kind is Kind.unlearn else 0,
        weighed_steps=training.weighed_steps(forget_pairs) if request.kind is Kind.unlearn else 0,
        canonical=_canonical_text(request, inputs),
        photos=_photos(inputs) if request.kind is Kind.evaluate else frozenset(),
    )
    return checked, found, inputs


def _photos(inputs: JobInputs) -> frozenset[str]:
    return frozenset(pair.image.digest for pairs in (inputs.forget, *inputs.probes.values()) for pair in pairs)


def _check_rights(request: JobRequest, limits: CheckLimits) -> None:
    """Raises InvalidRequest for what the operator doesn't let this client ask for."""
    asked = [("priority", request.priority, limits.max_priority)]
    if isinstance(request, SubmitRequest):
        asked.append(("replay_days", request.replay_days or 0, limits.max_replay_days))
    errors = [
        FieldError(f"may be at most {most} for this client", (name,)) for name, value, most in asked if value > most
    ]
    if errors:
        raise InvalidRequest.of(errors)


def _read(unchecked: UncheckedRequest) -> tuple[JobRequest, ImageResolver]:
    limits = unchecked.limits
    body = unchecked.body.read()
    request, files = parse_request(unchecked.content_type, body, limits.max_pairs, unchecked.schema)
    return request, ImageResolver(request, files, limits.images)


def limit_memory(limit: int) -> None:
    """Bounds this process's address space, for good."""
    if sys.platform == "linux":  # other systems have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _check_retain_differs(inputs: JobInputs) -> None:
    """Raises InvalidRequest if a retain pair is in `forget` too, or if all retain images are."""
    if inputs.retain is None:
        return

    def image_and_question(pair: Pair) -> tuple[bytes, str]:
        return pair.image.data, pair.question.strip()

    forgotten = {image_and_question(pair) for pair in inputs.forget}
    errors = [
        FieldError("is to be retained, but the same image and question are in forget too", ("retain", index))
        for index, pair in enumerate(inputs.retain)
        if image_and_question(pair) in forgotten
    ]
    photos = {pair.image.data for pair in inputs.forget}
    if not errors and all(pair.image.data in photos for pair in inputs.retain):
        errors = [FieldError("shows only images that are to be forgotten; at least one other is needed", ("retain",))]
    if errors:
        raise InvalidRequest.of(errors)


def _canonical_text(request: JobRequest, inputs: JobInputs) -> str:
    """The request as JSON with sorted keys, each set of pairs replaced by its digest.

    Fields with their default are left out: a field that a later version adds must not change the hash of a request
    without it, which a client may be repeating over an upgrade. So is the kind of a forget request.
    """
    document = request.model_dump(mode="json", exclude_defaults=True, exclude={"forget", "retain", "probes"})
    if request.kind is not Kind.unlearn:
        document["kind"] = request.kind.value
    document["forget"] = inputs.forget.digest
    document["retain"] = inputs.retain.digest if inputs.retain else None
    document["probes"] = {name: pairs.digest for name, pairs in inputs.probes.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
