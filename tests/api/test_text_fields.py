"""Every text field of a request, also one that is added later: what holds for all of them."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from api.forget_requests.request_check import CheckLimits, UncheckedRequest, canonical_text_of
from api.forget_requests.spool import SpooledBody
from api.schemas import Line, Metadata, MetadataFilter, Name, ProbeName, Reference, SubmitRequest
from api.views import JobView
from jobs.catalog import Catalog
from jobs.client_limits import ClientLimits
from tests.api.service import Service, body, problem
from tests.docs.pages import text_of

# Destroyed when the job ends, a name out of the operator's catalog, or a part of the settings.
_NOT_KEPT = {"model", "forget", "retain", "retain_set", "probes", "training", "targets", "audits"}
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
    for text in ("Zoë\u00a0Marwood", "DSR 1", "佐藤", "a\u200db"):
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
    kept = SubmitRequest.model_fields.keys() - _NOT_KEPT
    assert {_SHOWN_AS.get(name, name) for name in kept} <= JobView.model_fields.keys()


# Control characters, line breaks of Unicode, and what turns the direction of writing.
_UNSEEN = [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]


def _identifiers(text: str) -> Iterator[tuple[TypeAdapter[Any], Any]]:
    """Each kind of identifier with this text in it."""
    for kind in (Line, Reference, Name, ProbeName):
        yield TypeAdapter(kind), text
    yield TypeAdapter(Metadata), {text: "value"}
    yield TypeAdapter(MetadataFilter), f"{text}=value"


def test_no_identifier_holds_a_character_that_cannot_be_seen() -> None:
    for adapter, value in _identifiers("ab"):
        adapter.validate_python(value)
    for code in _UNSEEN:
        for adapter, value in _identifiers(f"a{chr(code)}b"):
            with pytest.raises(ValidationError):
                adapter.validate_python(value)


def test_letters_of_every_script_stay_allowed() -> None:
    """Among them those that are written from right to left, and joiners, which Persian and Hindi need."""
    for text in ("می\u200cخواهم 4711", "דוד לוי", "क्\u200dष", "Zoë", "李雷", "👩\u200d🔬"):
        for kind in (Line, Reference):
            TypeAdapter(kind).validate_python(text)


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
    assert [name for name in SubmitRequest.model_fields if name not in _NOT_KEPT and f"`{name}`" not in page] == []


def test_unset_fields_do_not_enter_the_hash(service: Service, tmp_path: Path) -> None:
    """Else a field that a new version adds would change it, and a repeat over an upgrade would be refused."""
    content = service.http.build_request("POST", "/unlearn-jobs", json=body()).read()
    unchecked = UncheckedRequest(
        "application/json",
        SpooledBody(content),
        CheckLimits.of(service.settings, ClientLimits()),
        Catalog.load(service.settings.catalog),
        b"",
        tmp_path / "sealed",
        tmp_path / "place",
    )
    assert set(json.loads(canonical_text_of(unchecked))) == {"model", "forget", "retain", "probes"}
