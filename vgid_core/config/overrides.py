"""Overrides: the settings that one request can change."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.config.run import UnlearnConfig
from vgid_core.config.strict import Strict


class TrainingOverrides(Strict):
    """Settings that one request can change. Unset fields keep the model's own settings."""

    steps: int | None = Field(default=None, ge=1, le=2000)
    forget_batch_size: int | None = Field(default=None, ge=1, le=64)
    retain_batch_size: int | None = Field(default=None, ge=1, le=64)
    learning_rate: float | None = Field(default=None, gt=0, le=0.05)
    forget_weight: float | None = Field(default=None, gt=0, le=20)
    retain_weight: float | None = Field(default=None, ge=0, le=20)
    lora_rank: int | None = Field(default=None, ge=1, le=128)
    instruction: str | None = Field(default=None, max_length=500)
    perturbation: PerturbationConfig | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)

    def apply_to(self, config: UnlearnConfig) -> UnlearnConfig:
        """`config` with every field that is set here, validated. Raises ValidationError."""
        given: dict[str, Any] = {k: v for k, v in self.model_dump().items() if v is not None}
        values = config.model_dump()
        for name in ("instruction", "perturbation"):
            if name in given:
                values["method"][name] = given.pop(name)
        if "lora_rank" in given:
            # Keeps the adapter's scale, alpha / rank, so that the learning rate has the same effect.
            scale = config.lora.alpha / config.lora.rank
            values["lora"]["rank"] = given.pop("lora_rank")
            values["lora"]["alpha"] = max(1, round(scale * values["lora"]["rank"]))
        if "seed" in given:
            values["seed"] = given.pop("seed")
        values["training"].update(given)
        return UnlearnConfig.model_validate(values)
