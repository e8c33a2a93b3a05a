"""What a run is told: validated before torch is imported, so a mistake costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vgid_core.intervention import PerturbationConfig
from vgid_core.methods import AnyMethod, VgidAlias
from vgid_core.methods.known import named
from vgid_core.presets import start_from_preset
from vgid_core.strict import Strict

_FEWEST_STEPS = 96
# Of each forget pair, where nobody says how many steps: shown twice, others are harmed (docs/method.md).
_TIMES_SHOWN = 3
_MOST_STEPS = 5000


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


class Targets(Strict):
    """When a run may end before its last step: as soon as all that is set here holds at one check.

    Measured as mean ROUGE-L, greedily, on an even sample of each set; a fall is counted from the base on that sample.
    """

    forget_rouge_l: float = Field(ge=0, le=1, description="of the forget set, at most")
    retain_fall: float | None = Field(default=None, ge=0, le=1, description="ROUGE-L lost on the retain set, at most")
    utility_fall: float | None = Field(default=None, ge=0, le=1, description="ROUGE-L lost on the utility set, at most")
    every_steps: int = Field(default=10, ge=1, le=5000, description="steps from one check to the next")
    pairs: int = Field(default=32, ge=1, le=1000, description="pairs measured of each set")

    @property
    def most_lost(self) -> dict[str, float]:
        """The fall that is allowed to each set that has one, by the set's role."""
        falls = {"retain": self.retain_fall, "utility": self.utility_fall}
        return {role: most for role, most in falls.items() if most is not None}


class TrainingConfig(Strict):
    """The loop: each step is one forget batch and one retain batch, an optimiser update after each.

    Batch sizes count pairs; `micro_batch_size` bounds what is held in memory and doesn't change the mathematics. It is
    halved where memory doesn't suffice after all; where several processes share the work, it is that of each.
    """

    steps: int | None = Field(
        default=None,
        ge=1,
        le=_MOST_STEPS,
        description="how many; the learning rate rises over the first of them and falls towards a tenth at the last. "
        f"Left out: as many as show each forget pair {_TIMES_SHOWN} times, at least {_FEWEST_STEPS} and at most "
        f"{_MOST_STEPS}",
    )
    forget_batch_size: int = Field(default=8, ge=1, le=256, description="forget pairs a step")
    retain_batch_size: int = Field(default=12, ge=1, le=256, description="retain pairs a step")
    micro_batch_size: int = Field(default=16, ge=1, le=256, description="pairs computed at once: memory against speed")
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1, description="AdamW's, times the schedule's factor")
    warmup_steps: int = Field(default=5, ge=0, le=1000, description="steps over which the learning rate rises")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's, on the adapter")
    forget_weight: float = Field(default=1.0, gt=0, le=100, description="alpha in the paper")
    retain_weight: float = Field(default=1.0, ge=0, le=100, description="beta in the paper")
    gradient_clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm of an update")
    gradient_checkpointing: bool = Field(
        default=False, description="layers keep their input alone and are computed again on the way back: less memory"
    )
    targets: Targets | None = Field(default=None, description="ends the run early, once they hold")
    fp8: bool = Field(
        default=False, description="frozen weights in 8-bit floats while distilling: faster on recent accelerators"
    )

    @property
    def teacher_batch_size(self) -> int:
        """Pairs that teachers are asked about at once: without gradients there is room for more."""
        return 2 * self.micro_batch_size

    def steps_for(self, forget_pairs: int) -> int:
        """How many steps a run on so many forget pairs has, unless its targets end it before."""
        needed = -(-_TIMES_SHOWN * forget_pairs // self.forget_batch_size)
        return self.steps or min(max(_FEWEST_STEPS, needed), _MOST_STEPS)


class EvaluationConfig(Strict):
    """Greedy generation and teacher-forced likelihood over whole sets, or over an even sample of `max_pairs`.

    The sample holds one pair of each stretch of the set, drawn the same way every time. ROUGE-L compares words of any
    script; where no spaces part them (Chinese, Japanese, Thai), letters.
    """

    batch_size: int = Field(default=32, ge=1, le=256, description="pairs asked at once where rows aren't packed")
    max_new_tokens: int = Field(default=32, ge=1, le=1024, description="most tokens of a generated answer")
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="pairs evaluated of each set")


class UnlearnConfig(Strict):
    """Everything a run needs to know besides the model and the data.

    A `preset` among the values given is the name of one of `vgid_core.presets.PRESETS`: what else is given changes it.
    """

    method: AnyMethod = VgidAlias()
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
    shard_base: bool = Field(
        default=False, description="of the frozen decoder layers each process holds a share (FSDP), not all"
    )
    device: str = Field(
        default="auto", description="auto, cpu, cuda or cuda:N; auto: the first CUDA device, if there is one"
    )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The preset of that name with these changes, validated. Raises ValidationError, also for an unknown name."""
        return cls.model_validate({"preset": name, **changes})

    @property
    def names_somebody(self) -> bool:
        """Whether it holds the name of whom it is to forget: then it is for one request alone, and written nowhere."""
        return getattr(self.method, "subject_name", None) is not None

    def for_pairs(self, forget_pairs: int) -> Self:
        """These settings with the number of steps that a run on so many forget pairs has."""
        steps = self.training.steps_for(forget_pairs)
        return self.model_copy(update={"training": self.training.model_copy(update={"steps": steps})})

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return start_from_preset(values) if isinstance(values, Mapping) and "preset" in values else values

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, value: Any) -> Any:
        """A name alone stands for that method's own settings, and settings without a name for the default's."""
        return named(value, otherwise=cls.model_fields["method"].default.name)

    @model_validator(mode="after")
    def _fp8_has_layers_to_work_on(self) -> Self:
        if self.training.fp8 and (self.lora.dropout > 0 or self.base_weights != "full"):
            raise ValueError("training.fp8 takes neither lora.dropout nor base_weights in 4 bits")
        return self

    @model_validator(mode="after")
    def _shares_are_of_plain_weights(self) -> Self:
        if self.shard_base and (self.training.fp8 or self.base_weights != "full"):
            raise ValueError("shard_base takes neither training.fp8 nor base_weights in 4 bits")
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
