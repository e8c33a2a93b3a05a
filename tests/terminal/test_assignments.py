"""Options of the form NAME=VALUE."""

from __future__ import annotations

import pytest
import typer

from terminal.assignments import assignments, parse_value


def test_a_value_holds_all_that_follows_the_first_sign() -> None:
    assert assignments(["a=1", "b=", "c=x=y"], "--set") == {"a": "1", "b": "", "c": "x=y"}
    assert assignments(None, "--set") == {}


@pytest.mark.parametrize("given", [["steps"], ["=3"], ["a=1", "a=2"]])
def test_each_needs_a_sign_and_a_name_of_its_own(given: list[str]) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        assignments(given, "--set")
    assert refused.value.param_hint == "--set"


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("null", None), ('{"name": "npo"}', {"name": "npo"}), ("npo", "npo"), ("", "")],
)
def test_a_value_is_json_or_itself(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000], ids=["digits", "nesting"])
def test_json_that_python_refuses_is_text(text: str) -> None:
    assert parse_value(text) == text
