"""What a run of the method is told: validated before torch is imported, so a mistake costs nothing.

Notation follows VGID (arXiv 2606.00105): teacher = frozen base on a perturbed image and an instructed
question, student = base + LoRA on the clean forget item, loss = alpha * KL_forget + beta * KL_retain.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PerturbationKind = Literal["uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank", "none"]

# What `strength` means for each kind, its range, and the value taken when none is given.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "gaussian": (0.01, 4.0, 0.5),  # standard deviation, as a share of the pixel range
    "diffusion": (1, 1000, 500),  # step of a 1000-step linear-beta diffusion schedule
    "blur": (0.5, 64.0, 8.0),  # radius in pixels
    "patch_shuffle": (2, 64, 8),  # patches along each side
}

_IMPERATIVE = "You must forget everything about this person."


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PerturbationConfig(_Strict):
    """How the teacher's image is disturbed, in image space before the processor normalises it.

    `strength` is required by no kind and allowed only where STRENGTHS names a range.
    """

    kind: PerturbationKind = "uniform"
    strength: float | None = None

    @model_validator(mode="after")
    def _strength_fits_kind(self) -> Self:
        bounds = STRENGTHS.get(self.kind)
        if bounds is None:
            if self.strength is not None:
                raise ValueError(f"perturbation '{self.kind}' takes no strength")
            return self
        low, high, _ = bounds
        if self.strength is not None and not low <= self.strength <= high:
            raise ValueError(f"strength of '{self.kind}' must lie in [{low}, {high}]")
        return self

    @property
    def replaces_image(self) -> bool:
        """Whether nothing of the image is left: then one draw serves every image of its size."""
        return self.kind in ("uniform", "blank")

    @property
    def is_random(self) -> bool:
        """Whether the same image is disturbed in another way each time."""
        return self.kind not in ("blur", "blank", "none")

    @property
    def effective_strength(self) -> float | None:
        """The given strength, or the kind's own default; None for kinds without one."""
        if self.kind not in STRENGTHS:
            return None
        return self.strength if self.strength is not None else STRENGTHS[self.kind][2]


class InterventionConfig(_Strict):
    """The two halves of VGID's teacher: a perturbed image, and an instruction before the question (paper, sec. 3).

    `instruction` may be empty, which leaves the visual half alone.
    """

    perturbation: PerturbationConfig = PerturbationConfig()
    instruction: str = Field(default=_IMPERATIVE, max_length=500)
    noise_draws: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="fixed draws of the noise, whose teacher answers are kept; without it, a new one each time",
    )

    @property
    def fixed_draws(self) -> int | None:
        """How many disturbed images there are of each; None where every one is new."""
        return self.noise_draws if self.perturbation.is_random else 1

    def instructed(self, question: str) -> str:
        """The teacher's question: the instruction prepended (u + q in the paper), or `question` unchanged."""
        return f"{self.instruction} {question}" if self.instruction else question


class LoraSettings(_Strict):
    """The adapter. `scope` language keeps the vision tower untouched, so that servers such as vLLM can load it."""

    rank: int = Field(default=16, ge=1, le=256)
    alpha: int = Field(default=16, ge=1, le=1024)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    scope: Literal["language", "language+vision"] = "language"


class TrainingConfig(_Strict):
    """The loop: each step is one forget batch and one retain batch, an optimiser update after each.

    Batch sizes count pairs; `micro_batch_size` bounds what is held in memory and doesn't change the mathematics.
    """

    steps: int = Field(default=60, ge=1, le=5000)
    forget_batch_size: int = Field(default=16, ge=1, le=256)
    retain_batch_size: int = Field(default=16, ge=1, le=256)
    micro_batch_size: int = Field(default=16, ge=1, le=256)
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1)
    warmup_steps: int = Field(default=5, ge=0, le=1000)
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)
    forget_weight: float = Field(default=1.0, gt=0, le=100, description="alpha in the paper")
    retain_weight: float = Field(default=1.0, ge=0, le=100, description="beta in the paper")
    gradient_clip: float | None = Field(default=1.0, gt=0)
    fp8: bool = Field(
        default=False, description="frozen weights in 8-bit floats while distilling: faster on recent accelerators"
    )


class EvaluationConfig(_Strict):
    """Greedy generation and teacher-forced likelihood over whole sets, or over an even sample of `max_pairs`."""

    batch_size: int = Field(default=32, ge=1, le=256)
    max_new_tokens: int = Field(default=32, ge=1, le=1024)
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="pairs evaluated of each set")


class UnlearnConfig(_Strict):
    """Everything a run needs to know besides the model and the data."""

    intervention: InterventionConfig = InterventionConfig()
    lora: LoraSettings = LoraSettings()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(default=0, ge=0, lt=2**31)
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on an accelerator, float32 on CPU"
    )
    base_weights: Literal["full", "nf4"] = Field(
        default="full", description="nf4: the frozen language weights in 4 bits, for accelerators with little memory"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")

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


class TrainingOverrides(_Strict):
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
                values["intervention"][name] = given.pop(name)
        if "lora_rank" in given:
            # alpha/rank is the adapter's scale: keep it, so that the learning rate keeps its meaning
            scale = config.lora.alpha / config.lora.rank
            values["lora"]["rank"] = given.pop("lora_rank")
            values["lora"]["alpha"] = max(1, round(scale * values["lora"]["rank"]))
        if "seed" in given:
            values["seed"] = given.pop("seed")
        values["training"].update(given)
        return UnlearnConfig.model_validate(values)
