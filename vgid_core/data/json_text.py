"""Parsing untrusted JSON: any fault raises one exception."""

from __future__ import annotations

import json
from typing import Any


class NotJson(ValueError):
    """The text isn't JSON, or exceeds the parser's limits. The message repeats nothing of the text."""


def parse_json(text: str | bytes) -> Any:
    """Parses `text`. Raises NotJson, also for numbers of thousands of digits and for nesting that is too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotJson("is not JSON that can be read") from None
