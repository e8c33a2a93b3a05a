"""Every text field of a request, also one that is added later: what holds for all of them."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from api.forget_requests.check_meter import CheckMeter
from api.forget_requests.request_check import CheckLimits, UncheckedRequest, canonical_text_of
from api.forget_requests.spool import SpooledBody
from api.identifiers import Instant, Line, Metadata, MetadataFilter, Reference
from api.schemas import EvaluationRequest, Name, ProbeName, SubmitRequest
from api.views.job import JobView
from jobs.catalog import Catalog
from jobs.clients.limits import ClientLimits
from tests.api.service import Service, body, problem
from tests.docs.pages import text_of

_FIELDS = SubmitRequest.model_fields | EvaluationRequest.model_fields
# Destroyed when the job ends, a name out of the operator's catalog, or a part of the settings.
_NOT_KEPT = {"model", "forget", "retain", "retain_set", "probes", "training", "targets", "audits", "repeat", "release"}
# Kept in another form than they are sent in: a job shows a hash.
_SHOWN_AS = {"subject_reference": "subject_reference_hash"}
_ONE_LINE = {"line": TypeAdapter(Line), "reference": TypeAdapter(Reference)}


def _text_fields() -> Iterator[str]:
    """The fields that take a string, by the published schema."""
    for name, shape in SubmitRequest.model_json_schema()["properties"].items():
        if any(choice.get("type") == "string" for choice in [shape, *shape.get("anyOf", [])]):
            yield name


@pytest.mark.parametrize("field", sorted(_text_fields()))
@pytest.mark.parametrize("text", ["a\0b", "a\u202eb", "x" * 20_000], ids=["NUL", "bidi", "long"])
def test_a_text_that_the_database_cannot_hold_is_refused(service: Service, field: str, text: str) -> None:
    change: dict[str, Any] = {field: text}
    problem(service.http.post("/unlearn-jobs", json=body(**change)), 422, "invalid-request", field)


@pytest.mark.parametrize("kind", _ONE_LINE)
def test_a_text_of_one_line_holds_no_control_character_and_no_line_separator(kind: str) -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    refused = [character for character in every if unicodedata.category(character) in ("Cc", "Zl", "Zp")]
    assert {"\0", "\n", "\x85", "\u2028", "\u2029"} <= set(refused)
    for character in refused:
        with pytest.raises(ValidationError):
            _ONE_LINE[kind].validate_python(f"a{character}b")
    for text in ("Zoë\u00a0Marwood", "DSR 1", "佐藤"):
        assert _ONE_LINE[kind].validate_python(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("kind", _ONE_LINE)
@pytest.mark.parametrize("text", ["", "   ", "\u3000\u00a0", "\u2028", "\x85", "\t\n"])
def test_a_blank_text_of_one_line_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValidationError):
        _ONE_LINE[kind].validate_python(text)


@pytest.mark.parametrize("text", ["DSR-1\n", "\u2028DSR-1", "DSR-1\x85"])
def test_a_reference_loses_the_line_breaks_around_it_and_a_line_is_refused(text: str) -> None:
    assert _ONE_LINE["reference"].validate_python(text) == "DSR-1"
    with pytest.raises(ValidationError):
        _ONE_LINE["line"].validate_python(text)


def test_every_field_that_is_kept_is_shown_in_the_job() -> None:
    kept = _FIELDS.keys() - _NOT_KEPT
    assert {_SHOWN_AS.get(name, name) for name in kept} <= JobView.model_fields.keys()


# Control and format characters, line breaks, those of private use or of no use, and what shows nothing otherwise.
_CATEGORIES = ("Cc", "Cf", "Cn", "Co", "Zl", "Zp")
_BLANK = [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810)]
_BLANK += [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]  # variation selectors
_JOINERS = (0x200C, 0x200D)


def _identifiers(text: str) -> Iterator[tuple[TypeAdapter[Any], Any]]:
    """Each kind of identifier with this text in it."""
    for kind in (Line, Reference, Name, ProbeName):
        yield TypeAdapter(kind), text
    yield TypeAdapter(Metadata), {text: "value"}
    yield TypeAdapter(MetadataFilter), f"{text}=value"


def test_no_identifier_holds_a_character_that_cannot_be_seen() -> None:
    for adapter, value in _identifiers("ab"):
        adapter.validate_python(value)
    codes = [code for code in range(0x10000) if unicodedata.category(chr(code)) in _CATEGORIES]
    samples = [*codes, *_BLANK, 0x1FFFF, 0xE0001, 0xE0041, 0xF0000, 0x10FFFD, 0x10FFFF]
    adapters = [adapter for adapter, _ in _identifiers("")]
    for code in set(samples) - {*_JOINERS, *range(0xD800, 0xE000)}:
        for adapter, (_, value) in zip(adapters, _identifiers(f"a{chr(code)}b"), strict=True):
            with pytest.raises(ValidationError):
                adapter.validate_python(value)
    for code in _JOINERS:
        for adapter, (kind, value) in zip(adapters, _identifiers(f"a{chr(code)}b"), strict=True):
            if kind.core_schema != TypeAdapter(Reference).core_schema:
                with pytest.raises(ValidationError):
                    adapter.validate_python(value)


def test_the_published_pattern_refuses_what_is_unseen_among_the_first_characters() -> None:
    """Those that have a meaning in this version of Unicode: what has none yet is refused by the service alone."""
    pattern = re.compile(TypeAdapter(Line).json_schema()["pattern"])
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        if category not in ("Cn", "Cs"):
            unseen = category in _CATEGORIES or code in _BLANK
            assert bool(pattern.fullmatch(chr(code))) is not unseen, hex(code)


def test_letters_of_every_script_stay_allowed() -> None:
    """Among them those that are written from right to left."""
    for text in ("علی رضا 4711", "דוד לוי", "क्ष", "Zoë", "李雷", "👩🔬"):
        for kind in (Line, Reference):
            assert TypeAdapter(kind).validate_python(text) == text


def test_a_name_is_found_with_and_without_its_joiners(service: Service) -> None:
    job_id = service.submit(subject_reference="علی\u200cرضا")
    for spelling in ("علیرضا", "علی\u200cرضا"):
        found = service.http.get("/unlearn-jobs", headers=[(b"Subject-Reference", spelling.encode())]).json()["jobs"]
        assert [job["id"] for job in found] == [str(job_id)]
    with pytest.raises(ValidationError):
        TypeAdapter(Reference).validate_python("\u200c \u200d")


@pytest.mark.parametrize(
    "text", ["1700000000", "1700000000000", "2031-05-01", "2031-05-01T00:00:00", "2031-05-01T00:00Z", "+1.7e9"]
)
def test_a_moment_is_given_as_rfc_3339_alone(http: httpx.Client, text: str) -> None:
    problem(http.post("/unlearn-jobs", json=body(due_at=text)), 422, "invalid-request", "due_at")
    problem(http.get("/unlearn-jobs", params={"created_after": text}), 422, "invalid-request", "created_after")


def test_moments_are_read_in_every_time_zone(http: httpx.Client) -> None:
    for text in ("2031-05-01T02:30:00.5+02:30", "2031-05-01T00:00:00.500Z", "2031-05-01t00:00:00.5z"):
        assert TypeAdapter(Instant).validate_python(text).isoformat() == "2031-05-01T00:00:00.500000+00:00"
        assert http.get("/unlearn-jobs", params={"created_after": text}).status_code == 200
    problem(http.post("/unlearn-jobs", json=body(due_at=1_700_000_000)), 422, "invalid-request", "due_at")


def test_a_query_and_a_header_hold_no_such_character_either(http: httpx.Client) -> None:
    for params, field in (
        ({"external_id": "a\u202eb"}, "external_id"),
        ({"metadata": ["a=b", "a\u2066b=c"]}, "metadata"),
        ({"metadata": "no value"}, "metadata"),
    ):
        problem(http.get("/unlearn-jobs", params=params), 422, "invalid-request", field)
    response = http.get("/unlearn-jobs", headers=[(b"Subject-Reference", "a\u200eb".encode())])
    problem(response, 422, "invalid-request", "Subject-Reference")


def test_every_field_that_is_kept_is_on_the_page_about_it() -> None:
    page = text_of("docs/concepts/kept-data.md")
    assert [name for name in _FIELDS if name not in _NOT_KEPT and f"`{name}`" not in page] == []


def test_unset_fields_do_not_enter_the_hash(service: Service, tmp_path: Path) -> None:
    """Else a field that a new version adds would change it, and a repeat over an upgrade would be refused."""
    content = service.http.build_request("POST", "/unlearn-jobs", json=body()).read()
    unchecked = UncheckedRequest(
        SubmitRequest,
        "application/json",
        SpooledBody(content, len(content)),
        CheckLimits.of(service.settings, ClientLimits()),
        Catalog.load(service.settings.catalog),
        b"",
        tmp_path / "sealed",
        tmp_path / "notes",
    )
    meter = CheckMeter(unchecked.notes, 20, 5)
    assert set(json.loads(canonical_text_of(unchecked, meter))) == {"model", "forget", "retain", "probes"}
