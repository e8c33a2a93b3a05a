"""Settings of the LoRA adapter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vgid_core.config.strict import Strict


class LoraSettings(Strict):
    """The LoRA adapter. With scope `language`, servers such as vLLM can load it: the vision tower stays unchanged."""

    rank: int = Field(default=4, ge=1, le=256, description="rank of each adapted layer's two matrices")
    alpha: int = Field(default=4, ge=1, le=1024, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="dropout on the adapter's input in training. Above zero, rows are padded instead of packed",
    )
    scope: Literal["language", "language+vision"] = Field(
        default="language", description="linear layers to adapt: the language tower's, or the vision tower's, too"
    )
