"""Loads adapters for commands, with a warning if they belong to another base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vgid_core.config import LoraSettings
from vgid_core.lora.load import is_for_other_base, load_adapter
from vgid_core.models.base import BaseModel


def load_adapter_with_warning(base: BaseModel, folder: Path, warn: Callable[[str], None]) -> LoraSettings:
    """As `load_adapter`; calls `warn` if the adapter was made for another base."""
    if is_for_other_base(base, folder):
        warn(
            "[bold yellow]warning:[/bold yellow] this adapter was made for another base than this one (its manifest "
            "names another digest): what follows says little about either"
        )
    return load_adapter(base, folder)
