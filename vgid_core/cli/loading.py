"""Adapters for commands: with a word of warning where it is due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vgid_core.config import LoraSettings
from vgid_core.lora.load import made_for_another, put_on
from vgid_core.models.base import BaseModel


def put_on_with_warning(base: BaseModel, folder: Path, warn: Callable[[str], None]) -> LoraSettings:
    """As `adapters.put_on`; `warn` hears of it when the adapter was made for another base."""
    if made_for_another(base, folder):
        warn(
            "[bold yellow]warning:[/bold yellow] this adapter was made for another base than this one (its manifest "
            "names another digest): what follows says little about either"
        )
    return put_on(base, folder)
