"""What a model is called in messages and artifacts."""

from __future__ import annotations

from pathlib import Path


def name_of(source: str) -> str:
    """A folder's own name, without the way there, which is nobody else's business; a hub id as it is."""
    return Path(source).name if Path(source).is_absolute() or Path(source).is_dir() else source
