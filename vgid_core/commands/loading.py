"""Adapters for commands: with a word of warning where it is due."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from vgid_core.adapters import made_for_another, put_on
from vgid_core.base_model import BaseModel
from vgid_core.config import LoraSettings


def put_on_with_warning(base: BaseModel, folder: Path, console: Console) -> LoraSettings:
    """As `adapters.put_on`; says so on `console` when the adapter was made for another base."""
    if made_for_another(base, folder):
        console.print(
            "[bold yellow]warning:[/bold yellow] this adapter was made for another base than this one (the digest in "
            "its manifest is another): what follows says little about either"
        )
    return put_on(base, folder)
