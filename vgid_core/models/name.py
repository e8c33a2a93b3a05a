"""A model's display name."""

from __future__ import annotations

from pathlib import Path


def name_of(source: str) -> str:
    """The name of a folder without its path, which stays private; a hub id unchanged."""
    return Path(source).name if Path(source).is_absolute() or Path(source).is_dir() else source
