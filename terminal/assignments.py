"""Parses options of the form NAME=VALUE."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer


def assignments(given: Iterable[str] | None, option: str) -> dict[str, str]:
    """The values by name. Raises typer.BadParameter naming `option`, also if a name comes twice."""
    parts = [text.partition("=") for text in given or []]
    if any(not (name and mark) for name, mark, _ in parts):
        raise typer.BadParameter("must look like NAME=VALUE", param_hint=option)
    if len({name for name, _, _ in parts}) < len(parts):
        raise typer.BadParameter("gives one name two values", param_hint=option)
    return {name: value for name, _, value in parts}


def parse_value(text: str) -> Any:
    """The value of valid JSON; any other text as a string."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and nesting that is too deep
        return text
