"""Errors in logs: what kind and where in our code, never the message, which could quote a person's data."""

from __future__ import annotations

import traceback
from pathlib import Path

_ROOMS = ("worker", "jobs", "vgid_core")
_ROOT = Path(__file__).resolve().parent.parent


def describe(error: BaseException) -> str:
    """The error's type and its causes' types, then the lines of our own code that it passed through, innermost last."""
    kinds = [_name(error)]
    cause = error.__cause__ or error.__context__
    while cause is not None:
        kinds.append(_name(cause))
        cause = cause.__cause__ or cause.__context__
    places = [
        f"{path.relative_to(_ROOT)}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (path := Path(frame.filename).resolve()).is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _ROOMS
    ]
    return " from ".join(kinds) + "".join(f"\n  {place}" for place in places)


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
