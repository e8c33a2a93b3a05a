"""The adapter that a run trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vgid_core.config.strict import Strict


class LoraSettings(Strict):
    """The adapter. `scope` language keeps the vision tower untouched, so that servers such as vLLM can load it."""

    rank: int = Field(default=4, ge=1, le=256, description="of the two matrices of each adapted layer")
    alpha: int = Field(default=4, ge=1, le=1024, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="on the adapter's input while training; then rows aren't packed"
    )
    scope: Literal["language", "language+vision"] = Field(
        default="language", description="which linear layers are adapted: the language tower's, or the vision's too"
    )
