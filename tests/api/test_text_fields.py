"""Every text field of a request, also one that is added later: what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.forget_requests.request_check import CheckLimits, UncheckedRequest, canonical_text_of
from api.forget_requests.spool import SpooledBody
from api.schemas import SubmitRequest
from jobs.catalog import Catalog
from tests.api.service import Service, body, problem
from tests.docs.pages import text_of

# Destroyed when the job ends, or a name out of the operator's catalog.
_NOT_KEPT = {"model", "forget", "retain", "retain_set", "probes", "training"}


def _text_fields() -> Iterator[str]:
    """The fields that take a string, by the published schema."""
    for name, shape in SubmitRequest.model_json_schema()["properties"].items():
        if any(choice.get("type") == "string" for choice in [shape, *shape.get("anyOf", [])]):
            yield name


@pytest.mark.parametrize("field", sorted(_text_fields()))
@pytest.mark.parametrize("text", ["a\0b", "x" * 20_000], ids=["NUL", "long"])
def test_a_text_that_the_database_cannot_hold_is_refused(service: Service, field: str, text: str) -> None:
    change: dict[str, Any] = {field: text}
    problem(service.http.post("/unlearn-jobs", json=body(**change)), 422, "invalid-request", field)


def test_every_field_that_is_kept_is_on_the_page_about_it() -> None:
    page = text_of("docs/concepts/kept-data.md")
    assert [name for name in SubmitRequest.model_fields if name not in _NOT_KEPT and f"`{name}`" not in page] == []


def test_unset_fields_do_not_enter_the_hash(service: Service, tmp_path: Path) -> None:
    """Else a field that a new version adds would change it, and a repeat over an upgrade would be refused."""
    content = service.http.build_request("POST", "/unlearn-jobs", json=body()).read()
    unchecked = UncheckedRequest(
        "application/json",
        SpooledBody(content),
        CheckLimits.of(service.settings),
        Catalog.load(service.settings.catalog),
        b"",
        tmp_path / "sealed",
        tmp_path / "place",
    )
    assert set(json.loads(canonical_text_of(unchecked))) == {"model", "forget", "retain", "probes"}
