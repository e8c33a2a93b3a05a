"""Paths as they stand in a run file or behind a flag, made absolute."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from vgid_core.data.readers.source import exists

_SOURCES = ("forget", "retain", "utility", "never_seen", "facts", "strangers", "unlabelled")
_TABLES_OF_SOURCES = ("probes", "kept")
_FOLDERS = ("out", "twin")
_FORMATTED = re.compile(r"(?P<format>[a-z][a-z0-9_-]+):(?P<path>.+)", re.DOTALL)


def possible(path: object) -> TypeGuard[str]:
    """Whether it can be looked for; the empty one would be the folder that paths start at."""
    return isinstance(path, str) and path != "" and "\0" not in path


def resolved(source: str, folder: Path) -> str:
    """`source` with its path made absolute, seen from `folder`; a leading `format:` stays."""
    parts = _FORMATTED.fullmatch(source)
    if parts is None or exists(folder / source):
        return os.path.realpath(folder / source)  # Path.resolve raises where a link leads to itself
    return f"{parts['format']}:{os.path.realpath(folder / parts['path'])}"


def absolute(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`values` with every path in it made absolute; what can't be one stays, for validation to refuse."""
    found = dict(values)
    for key in _SOURCES:
        if possible(found.get(key)):
            found[key] = resolved(found[key], folder)
    for key in _TABLES_OF_SOURCES:
        if isinstance(found.get(key), Mapping):
            found[key] = {
                name: resolved(source, folder) if possible(source) else source for name, source in found[key].items()
            }
    if isinstance(found.get("compare"), Mapping):
        found["compare"] = absolute(found["compare"], folder)
    for key in _FOLDERS:
        if possible(found.get(key)):
            found[key] = os.path.realpath(folder / found[key])
    model = found.get("model")
    if possible(model) and (folder / model).is_dir():
        found["model"] = str((folder / model).resolve())
    return found
