"""Parses the body of a forget request, JSON or multipart, into checked pairs of images and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from api.forget_requests.images import ImageLimits, ImageRefused, check_image, decode_base64
from api.forget_requests.multipart import parse_multipart
from api.problems import FieldError, InvalidRequest, MalformedRequest, UnsupportedMediaType, body_errors
from api.schemas import ImageSource, SubmitRequest, SubmittedPair, is_probe_name
from jobs.settings import Settings
from jobs.storage.inputs import JobInputs
from vgid_core.data.pairs import EncodedImage, Pair, PairSet

_JSON_PART = "request"
_ACCEPTED_TYPES = "application/json, multipart/form-data"
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class ParsedRequest:
    """A forget request with its images in memory.

    canonical: equal for two requests with the same content, whatever their encoding. It is hashed for idempotency.
    """

    request: SubmitRequest
    inputs: JobInputs = field(repr=False)
    canonical: str = field(repr=False)


def parse_request(content_type: str, body: bytes, settings: Settings) -> ParsedRequest:
    """Parses the body and checks all that can be checked without the catalog.

    Raises MalformedRequest, UnsupportedMediaType, or InvalidRequest with every fault found.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        text, files = body, None
    elif media_type == "multipart/form-data":
        text, files = _split_parts(parse_multipart(content_type, body, settings.max_pairs + 1))
    else:
        accepted = {"Accept-Post": _ACCEPTED_TYPES}
        raise UnsupportedMediaType("Send application/json or multipart/form-data.", headers=accepted)
    request = _parse_json(text)
    _check_pair_count(request, settings.max_pairs)
    inputs = _ImageResolver(files, ImageLimits(settings.max_image_bytes, settings.max_image_pixels)).resolve(request)
    _check_retain_differs(inputs)
    return ParsedRequest(request, inputs, _canonical_text(request, inputs))


def _split_parts(parts: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, bytes]]:
    """Returns the JSON document and the files by name."""
    files: dict[str, bytes] = {}
    for name, data in parts:
        if name in files:
            raise MalformedRequest("Two parts of the body have the same name.")
        files[name] = data
    if _JSON_PART not in files:
        raise MalformedRequest(f"A multipart body needs a part '{_JSON_PART}' that holds the JSON document.")
    return files.pop(_JSON_PART), files


def _parse_json(text: bytes) -> SubmitRequest:
    try:
        return SubmitRequest.model_validate_json(text, strict=True)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False, include_input=False)
    if findings[0]["type"] == "json_invalid":
        raise MalformedRequest("The document isn't valid JSON in UTF-8.")
    misnamed = {finding["loc"][1]: None for finding in findings if _is_in_misnamed_probe(finding["loc"])}
    errors = body_errors(finding for finding in findings if not _is_in_misnamed_probe(finding["loc"]))
    if misnamed:
        # The error gives the probe's position: a name against the rule is free text and may be a person's.
        order = {name: position for position, name in enumerate(json.loads(text)["probes"])}
        rule = "has a name that isn't one of up to 32 lower-case letters, digits and underscores, a letter first"
        errors += [FieldError(rule, name=f"probes[{order[name]}]") for name in misnamed]
    raise InvalidRequest.of(errors)


def _is_in_misnamed_probe(loc: Loc) -> bool:
    return len(loc) > 1 and loc[0] == "probes" and not is_probe_name(str(loc[1]))


def _pair_sets(request: SubmitRequest) -> Iterator[tuple[Loc, tuple[SubmittedPair, ...]]]:
    """Each set of pairs with its place in the request."""
    yield ("forget",), request.forget
    if request.retain is not None:
        yield ("retain",), request.retain
    for name, pairs in request.probes.items():
        yield ("probes", name), pairs


def _check_pair_count(request: SubmitRequest, max_pairs: int) -> None:
    total = 0
    for loc, pairs in _pair_sets(request):
        total += len(pairs)
        if total > max_pairs:
            detail = f"takes the request over the limit of {max_pairs} pairs (forget, retain and probes together)"
            raise InvalidRequest.of([FieldError(detail, loc)])


class _ImageResolver:
    """Replaces the image references of a request by checked bytes, and collects the errors.

    An image that occurs several times is checked once.
    """

    def __init__(self, files: Mapping[str, bytes] | None, limits: ImageLimits) -> None:
        self._files = files
        self._limits = limits
        self._unused = set(files or ())
        self._checked: dict[bytes, EncodedImage | ImageRefused] = {}
        self._errors: list[FieldError] = []

    def resolve(self, request: SubmitRequest) -> JobInputs:
        """The request's sets with their images. Raises InvalidRequest if an image is refused or a file isn't used."""
        sets = {loc: self._resolve_pairs(loc, pairs) for loc, pairs in _pair_sets(request)}
        self._errors += [
            # The error gives the file's position: its name may be a person's.
            FieldError("is a file that no pair names", name=f"file[{position}]")
            for position, name in enumerate(self._files or ())
            if name in self._unused
        ]
        if self._errors:
            raise InvalidRequest.of(self._errors)
        return JobInputs(
            forget=PairSet.of("forget", sets["forget",]),
            retain=PairSet.of("retain", sets["retain",]) if ("retain",) in sets else None,
            probes={name: PairSet.of(name, sets["probes", name]) for name in request.probes},
        )

    def _resolve_pairs(self, loc: Loc, pairs: tuple[SubmittedPair, ...]) -> list[Pair]:
        found = []
        for index, pair in enumerate(pairs):
            try:
                image = self._resolve_image(pair.image)
            except ImageRefused as refusal:
                self._errors.append(FieldError(str(refusal), (*loc, index, "image")))
            else:
                found.append(Pair(image, pair.question, pair.answer))
        return found

    def _resolve_image(self, source: ImageSource) -> EncodedImage:
        if source.file is not None:
            data = self._file_bytes(source.file)
        else:
            data = decode_base64(source.base64 or "", self._limits)
        if data not in self._checked:
            try:
                check_image(data, self._limits)
                self._checked[data] = EncodedImage(data)
            except ImageRefused as refusal:
                self._checked[data] = refusal
        checked = self._checked[data]
        if isinstance(checked, ImageRefused):
            raise checked
        return checked

    def _file_bytes(self, name: str) -> bytes:
        if self._files is None:
            raise ImageRefused("names a file, which only a multipart/form-data request can carry")
        if name not in self._files:
            raise ImageRefused("names a file that the request doesn't carry")
        self._unused.discard(name)
        return self._files[name]


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


def _canonical_text(request: SubmitRequest, inputs: JobInputs) -> str:
    """The request as JSON with sorted keys, each set of pairs replaced by its digest.

    Fields with their default are left out: a field that a later version adds must not change the hash of a request
    without it, which a client may be repeating over an upgrade.
    """
    document = request.model_dump(mode="json", exclude_defaults=True, exclude={"forget", "retain", "probes"})
    document["forget"] = inputs.forget.digest
    document["retain"] = inputs.retain.digest if inputs.retain else None
    document["probes"] = {name: pairs.digest for name, pairs in inputs.probes.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
