"""What a run is told: validated before torch is imported, so a mistake costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vgid_core.intervention import PerturbationConfig
from vgid_core.methods import AnyMethod, Vgid
from vgid_core.strict import Strict


class LoraSettings(Strict):
    """The adapter. `scope` language keeps the vision tower untouched, so that servers such as vLLM can load it."""

    rank: int = Field(default=16, ge=1, le=256, description="of the two matrices of each adapted layer")
    alpha: int = Field(default=16, ge=1, le=1024, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="on the adapter's input while training; then rows aren't packed"
    )
    scope: Literal["language", "language+vision"] = "language"


class TrainingConfig(Strict):
    """The loop: each step is one forget batch and one retain batch, an optimiser update after each.

    Batch sizes count pairs; `micro_batch_size` bounds what is held in memory and doesn't change the mathematics.
    """

    steps: int = Field(default=60, ge=1, le=5000, description="how many; the learning rate's schedule ends with them")
    forget_batch_size: int = Field(default=16, ge=1, le=256, description="forget pairs a step")
    retain_batch_size: int = Field(default=16, ge=1, le=256, description="retain pairs a step")
    micro_batch_size: int = Field(default=16, ge=1, le=256, description="pairs computed at once: memory against speed")
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1, description="AdamW's, at its highest")
    warmup_steps: int = Field(default=5, ge=0, le=1000, description="steps over which the learning rate rises")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's, on the adapter")
    forget_weight: float = Field(default=1.0, gt=0, le=100, description="alpha in the paper")
    retain_weight: float = Field(default=1.0, ge=0, le=100, description="beta in the paper")
    gradient_clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm of an update")
    fp8: bool = Field(
        default=False, description="frozen weights in 8-bit floats while distilling: faster on recent accelerators"
    )


class EvaluationConfig(Strict):
    """Greedy generation and teacher-forced likelihood over whole sets, or over an even sample of `max_pairs`."""

    batch_size: int = Field(default=32, ge=1, le=256, description="pairs asked at once where rows aren't packed")
    max_new_tokens: int = Field(default=32, ge=1, le=1024, description="most tokens of a generated answer")
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="pairs evaluated of each set")


class UnlearnConfig(Strict):
    """Everything a run needs to know besides the model and the data."""

    method: AnyMethod = Vgid()
    lora: LoraSettings = LoraSettings()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(default=0, ge=0, lt=2**31, description="of batches, noise and the adapter's beginning")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on an accelerator, float32 on CPU"
    )
    base_weights: Literal["full", "nf4"] = Field(
        default="full", description="nf4: the frozen language weights in 4 bits, for accelerators with little memory"
    )
    device: str = Field(
        default="auto", description="auto, cpu, cuda or cuda:N; auto: the first CUDA device, if there is one"
    )

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, value: Any) -> Any:
        """A name alone stands for that method's own settings, and settings without a name for the default's."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping):
            return {"name": cls.model_fields["method"].default.name, **value}
        return value

    @model_validator(mode="after")
    def _fp8_has_layers_to_work_on(self) -> Self:
        if self.training.fp8 and (self.lora.dropout > 0 or self.base_weights != "full"):
            raise ValueError("training.fp8 takes neither lora.dropout nor base_weights in 4 bits")
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if value in ("auto", "cpu", "cuda") or (value.startswith("cuda:") and value[5:].isdigit()):
            return value
        raise ValueError("device must be auto, cpu, cuda or cuda:N")


class TrainingOverrides(Strict):
    """What one request may change of its model's settings; unset fields keep them."""

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
        """`config` with every field that is set here replaced, validated anew."""
        given: dict[str, Any] = {k: v for k, v in self.model_dump().items() if v is not None}
        values = config.model_dump()
        for name in ("instruction", "perturbation"):
            if name in given:
                values["method"][name] = given.pop(name)
        if "lora_rank" in given:
            # alpha/rank is the adapter's scale: keep it, so that the learning rate keeps its meaning
            scale = config.lora.alpha / config.lora.rank
            values["lora"]["rank"] = given.pop("lora_rank")
            values["lora"]["alpha"] = max(1, round(scale * values["lora"]["rank"]))
        if "seed" in given:
            values["seed"] = given.pop("seed")
        values["training"].update(given)
        return UnlearnConfig.model_validate(values)
