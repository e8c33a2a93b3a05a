"""Describes errors for the log, by type and place. Their messages are left out: they could quote a person's data."""

from __future__ import annotations

import traceback
from pathlib import Path

_ROOMS = ("worker", "jobs", "vgid_core")
_ROOT = Path(__file__).resolve().parent.parent


def describe(error: BaseException) -> str:
    """The types of the error and its causes, then the lines of our own code in its traceback, innermost last."""
    types = [_type_name(error)]
    cause = error.__cause__ or error.__context__
    while cause is not None:
        types.append(_type_name(cause))
        cause = cause.__cause__ or cause.__context__
    lines = [
        f"{path.relative_to(_ROOT)}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (path := Path(frame.filename).resolve()).is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _ROOMS
    ]
    return " from ".join(types) + "".join(f"\n  {line}" for line in lines)


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
