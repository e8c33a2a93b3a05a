"""Makes the paths of run files and flags absolute."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from vgid_core.data.readers.source import exists

_SOURCES = ("forget", "retain", "utility", "unseen", "neighbours", "facts", "unseen_faces", "unlabelled")
_TABLES_OF_SOURCES = ("probes", "kept")
_FOLDERS = ("out", "reference_model")
_FORMATTED = re.compile(r"(?P<format>[a-z][a-z0-9_-]+):(?P<path>.+)", re.DOTALL)


def is_path(path: object) -> TypeGuard[str]:
    """Whether it can be a path. The empty string can't, since it would mean the base folder."""
    return isinstance(path, str) and path != "" and "\0" not in path


def resolved(source: str, folder: Path) -> str:
    """`source` with its path, relative to `folder`, made absolute; a leading `format:` stays."""
    parts = _FORMATTED.fullmatch(source)
    if parts is None or exists(folder / source):
        return os.path.realpath(folder / source)  # Path.resolve raises for a link to itself
    return f"{parts['format']}:{os.path.realpath(folder / parts['path'])}"


def absolute_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`values` with all paths made absolute. Invalid paths stay, for validation to refuse."""
    found = dict(values)
    for key in _SOURCES:
        if is_path(found.get(key)):
            found[key] = resolved(found[key], folder)
    for key in _TABLES_OF_SOURCES:
        if isinstance(found.get(key), Mapping):
            found[key] = {
                name: resolved(source, folder) if is_path(source) else source for name, source in found[key].items()
            }
    if isinstance(found.get("compare"), Mapping):
        found["compare"] = absolute_paths(found["compare"], folder)
    for key in _FOLDERS:
        if is_path(found.get(key)):
            found[key] = os.path.realpath(folder / found[key])
    model = found.get("model")
    if is_path(model) and (folder / model).is_dir():
        found["model"] = str((folder / model).resolve())
    return found
