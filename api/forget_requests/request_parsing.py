"""Parses the body of a request, JSON or multipart, and checks all that its texts alone decide."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from pydantic import ValidationError

from api.forget_requests.check_meter import Loc
from api.forget_requests.image_resolver import pair_sets
from api.forget_requests.multipart import parse_multipart
from api.forget_requests.structure import has_more_tokens
from api.problems import FieldError, InvalidRequest, MalformedRequest, UnsupportedMediaType, body_errors
from api.schemas import JobRequest, is_probe_name

_JSON_PART = "request"
_ACCEPTED_TYPES = "application/json, multipart/form-data"
# Of a document: a pair has eighteen strings, commas and brackets, everything else fewer than a thousand.
_TOKENS_PER_PAIR, _OTHER_TOKENS = 20, 1000

Files = Mapping[str, bytes]


def parse_request(
    content_type: str, body: bytes | bytearray, max_pairs: int, schema: type[JobRequest]
) -> tuple[JobRequest, Files | None]:
    """The request, one of `schema`, and its files by name if it is multipart.

    Raises MalformedRequest, UnsupportedMediaType, or InvalidRequest.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        text, files = body, None
    elif media_type == "multipart/form-data":
        text, files = _split_parts(parse_multipart(content_type, body, max_pairs + 1))
    else:
        accepted = {"Accept-Post": _ACCEPTED_TYPES}
        raise UnsupportedMediaType("Send application/json or multipart/form-data.", headers=accepted)
    if has_more_tokens(text, _TOKENS_PER_PAIR * max_pairs + _OTHER_TOKENS):
        raise InvalidRequest.of([FieldError(f"holds more values than a request of {max_pairs} pairs has")])
    request = _parse_json(text, schema)
    total = 0
    for loc, pairs in pair_sets(request):
        total += len(pairs)
        if total > max_pairs:
            detail = f"takes the request over the limit of {max_pairs} pairs (forget, retain and probes together)"
            raise InvalidRequest.of([FieldError(detail, loc)])
    return request, files


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


def _parse_json(text: bytes | bytearray, schema: type[JobRequest]) -> JobRequest:
    _refuse_repeated_names(text)
    try:
        return schema.model_validate_json(text, strict=True)
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


def _refuse_repeated_names(text: bytes | bytearray) -> None:
    """Raises MalformedRequest where an object names a field twice: who reads it otherwise may see another request.

    It keeps no value, so it costs the decoded text. What is no JSON at all is the next parser's to refuse.
    """
    with suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=_check_names)


def _check_names(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) < len(members):
        raise MalformedRequest("An object of the document names a field twice.")


def _is_in_misnamed_probe(loc: Loc) -> bool:
    return len(loc) > 1 and loc[0] == "probes" and not is_probe_name(str(loc[1]))
