"""All settings of one run, validated before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vgid_core.config.adapter import LoraSettings
from vgid_core.config.evaluation import AuditLevel, EvaluationConfig
from vgid_core.config.method_names import with_method_name
from vgid_core.config.methods import AnyMethod, VgidSubstitute
from vgid_core.config.presets import start_from_preset
from vgid_core.config.strict import Strict
from vgid_core.config.training import TrainingConfig
from vgid_core.config.verdict import VerdictTargets


class UnlearnConfig(Strict):
    """All settings of a run besides the model and the data.

    A value `preset` names one of `config.presets.PRESETS`, which the other values override.
    """

    method: AnyMethod = VgidSubstitute()
    lora: LoraSettings = LoraSettings()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    verdict: VerdictTargets = VerdictTargets()
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of batches, noise and the adapter's initial weights")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="precision; auto: bfloat16 on an accelerator, float32 on CPU"
    )
    base_weights: Literal["full", "nf4"] = Field(
        default="full", description="nf4: the frozen language weights in 4 bits, for accelerators with little memory"
    )
    shard_base: bool = Field(default=False, description="shards the frozen decoder layers over all processes (FSDP)")
    device: str = Field(
        default="auto", description="auto, cpu, cuda or cuda:N; auto: the first CUDA device, if there is one"
    )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The named preset with these overrides. Raises ValidationError, also for an unknown name."""
        return cls.model_validate({"preset": name, **changes})

    @property
    def names_a_person(self) -> bool:
        """Whether it holds a subject's name. Such settings serve one request and may not be written down."""
        return getattr(self.method, "subject_name", None) is not None

    def for_pairs(self, forget_pairs: int) -> Self:
        """These settings with `training.steps` set for a forget set of this size."""
        steps = self.training.steps_for(forget_pairs)
        return self.model_copy(update={"training": self.training.model_copy(update={"steps": steps})})

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return start_from_preset(values) if isinstance(values, Mapping) and "preset" in values else values

    def with_audits(self, level: AuditLevel) -> Self:
        """These settings with audits of this level."""
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"audits": level})})

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, value: Any) -> Any:
        """A bare name means that method's defaults; settings without a name are the default method's."""
        return with_method_name(value, default=cls.model_fields["method"].default.name)

    @model_validator(mode="after")
    def _fp8_needs_plain_layers(self) -> Self:
        if self.training.fp8 and (self.lora.dropout > 0 or self.base_weights != "full"):
            raise ValueError("training.fp8 takes neither lora.dropout nor base_weights in 4 bits")
        return self

    @model_validator(mode="after")
    def _sharding_needs_plain_weights(self) -> Self:
        if self.shard_base and (self.training.fp8 or self.base_weights != "full"):
            raise ValueError("shard_base takes neither training.fp8 nor base_weights in 4 bits")
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if value in ("auto", "cpu", "cuda") or (value.startswith("cuda:") and value[5:].isdigit()):
            return value
        raise ValueError("device must be auto, cpu, cuda or cuda:N")
