"""JSON that a stranger wrote: one way to read it, whatever is wrong with it."""

from __future__ import annotations

import json
from typing import Any


class NotJson(ValueError):
    """A text that isn't JSON, or is more than can be read. Its words repeat nothing of the text."""


def parsed(text: str | bytes) -> Any:
    """What `text` holds. Raises NotJson, also for numbers of thousands of digits and for endless nesting."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotJson("is not JSON that can be read") from None
