"""From the bytes of a submission to checked pairs of images and texts, the same whatever the encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from api.images import ImageLimits, ImageRefused, check_image, from_base64
from api.multipart import parse_multipart
from api.problems import FieldError, InvalidRequest, MalformedRequest, UnsupportedMediaType, body_errors
from api.schemas import ImageSource, SubmitRequest, SubmittedPair, is_probe_name
from jobs.settings import Settings
from jobs.storage.inputs import JobInputs
from vgid_core.data.pairs import EncodedImage, Pair, PairSet

_JSON_PART = "request"
_ACCEPTED = "application/json, multipart/form-data"
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Submission:
    """A request as sent, its images in memory. `canonical` is equal for equal content, however it was encoded."""

    request: SubmitRequest
    inputs: JobInputs = field(repr=False)
    canonical: str = field(repr=False)


def parse_submission(content_type: str, body: bytes, settings: Settings) -> Submission:
    """Everything about a submission that can be judged without knowing the models.

    Raises MalformedRequest, UnsupportedMediaType, or InvalidRequest with every fault that was found.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        text, files = body, None
    elif media_type == "multipart/form-data":
        text, files = _split_parts(parse_multipart(content_type, body, settings.max_pairs + 1))
    else:
        raise UnsupportedMediaType("Send application/json or multipart/form-data.", headers={"Accept-Post": _ACCEPTED})
    request = _parsed(text)
    _check_count(request, settings.max_pairs)
    inputs = _Images(files, ImageLimits(settings.max_image_bytes, settings.max_image_pixels)).inputs_of(request)
    _check_overlap(inputs)
    return Submission(request, inputs, _canonical(request, inputs))


def _split_parts(parts: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    for name, data in parts:
        if name in files:
            raise MalformedRequest("Two parts of the body have the same name.")
        files[name] = data
    if _JSON_PART not in files:
        raise MalformedRequest(f"A multipart body needs a part '{_JSON_PART}' that holds the JSON document.")
    return files.pop(_JSON_PART), files


def _parsed(text: bytes) -> SubmitRequest:
    try:
        return SubmitRequest.model_validate_json(text, strict=True)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False, include_input=False)
    if findings[0]["type"] == "json_invalid":
        raise MalformedRequest("The document isn't valid JSON in UTF-8.")
    misnamed = {finding["loc"][1]: None for finding in findings if _in_misnamed_probe(finding["loc"])}
    errors = body_errors(finding for finding in findings if not _in_misnamed_probe(finding["loc"]))
    if misnamed:
        # by position: such a name is free text, and may well be the name of a person
        order = {name: position for position, name in enumerate(json.loads(text)["probes"])}
        rule = "has a name that isn't one of up to 32 lower-case letters, digits and underscores, a letter first"
        errors += [FieldError(rule, name=f"probes[{order[name]}]") for name in misnamed]
    raise InvalidRequest.of(errors)


def _in_misnamed_probe(loc: Loc) -> bool:
    return len(loc) > 1 and loc[0] == "probes" and not is_probe_name(str(loc[1]))


def _sets(request: SubmitRequest) -> Iterator[tuple[Loc, tuple[SubmittedPair, ...]]]:
    yield ("forget",), request.forget
    if request.retain is not None:
        yield ("retain",), request.retain
    for name, pairs in request.probes.items():
        yield ("probes", name), pairs


def _check_count(request: SubmitRequest, most: int) -> None:
    total = 0
    for loc, pairs in _sets(request):
        total += len(pairs)
        if total > most:
            detail = f"takes the request over the limit of {most} pairs (forget, retain and probes together)"
            raise InvalidRequest.of([FieldError(detail, loc)])


class _Images:
    """Turns image sources into checked bytes; collects what is wrong with them. Equal bytes are checked once."""

    def __init__(self, files: Mapping[str, bytes] | None, limits: ImageLimits) -> None:
        self._files = files
        self._limits = limits
        self._unused = set(files or ())
        self._known: dict[bytes, EncodedImage | ImageRefused] = {}
        self._errors: list[FieldError] = []

    def inputs_of(self, request: SubmitRequest) -> JobInputs:
        """The sets with their images. Raises InvalidRequest when any image can't be taken or any file isn't used."""
        sets = {loc: self._pairs(loc, pairs) for loc, pairs in _sets(request)}
        self._errors += [
            # by position: the name of a file may well be the name of a person
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

    def _pairs(self, loc: Loc, pairs: tuple[SubmittedPair, ...]) -> list[Pair]:
        found = []
        for index, pair in enumerate(pairs):
            try:
                image = self._image(pair.image)
            except ImageRefused as refusal:
                self._errors.append(FieldError(str(refusal), (*loc, index, "image")))
            else:
                found.append(Pair(image, pair.question, pair.answer))
        return found

    def _image(self, source: ImageSource) -> EncodedImage:
        data = self._file(source.file) if source.file is not None else from_base64(source.base64 or "", self._limits)
        if data not in self._known:
            try:
                check_image(data, self._limits)
                self._known[data] = EncodedImage(data)
            except ImageRefused as refusal:
                self._known[data] = refusal
        known = self._known[data]
        if isinstance(known, ImageRefused):
            raise known
        return known

    def _file(self, name: str) -> bytes:
        if self._files is None:
            raise ImageRefused("names a file, which only a multipart/form-data request can carry")
        if name not in self._files:
            raise ImageRefused("names a file that the request doesn't carry")
        self._unused.discard(name)
        return self._files[name]


def _check_overlap(inputs: JobInputs) -> None:
    """To forget and to keep the same answer can't both be done."""
    if inputs.retain is None:
        return

    def asked(pair: Pair) -> tuple[bytes, str]:
        return pair.image.data, pair.question.strip()

    forgotten = {asked(pair) for pair in inputs.forget}
    errors = [
        FieldError("is to be retained, but the same image and question are in forget too", ("retain", index))
        for index, pair in enumerate(inputs.retain)
        if asked(pair) in forgotten
    ]
    photos = {pair.image.data for pair in inputs.forget}
    if not errors and all(pair.image.data in photos for pair in inputs.retain):
        errors = [FieldError("shows only images that are to be forgotten; at least one other is needed", ("retain",))]
    if errors:
        raise InvalidRequest.of(errors)


def _canonical(request: SubmitRequest, inputs: JobInputs) -> str:
    """The request with every set replaced by its digest, keys sorted: the text that the idempotency hash is over."""
    document = request.model_dump(mode="json", exclude={"forget", "retain", "probes"})
    document["forget"] = inputs.forget.digest
    document["retain"] = inputs.retain.digest if inputs.retain else None
    document["probes"] = {name: pairs.digest for name, pairs in inputs.probes.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
