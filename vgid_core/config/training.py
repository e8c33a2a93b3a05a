"""Settings of the training loop."""

from __future__ import annotations

from pydantic import Field

from vgid_core.config.strict import Strict

MIN_STEPS = 96
# Over the forget set, if `steps` isn't set. Two harm other people (docs/research/log.md).
_EPOCHS = 3
_MAX_STEPS = 5000


class TrainingConfig(Strict):
    """The training loop. A step takes a forget batch and a retain batch: VGID updates on each, other methods on both.

    Batch sizes count pairs. `micro_batch_size` bounds memory and doesn't change the result up to rounding. It is halved
    if memory runs out. With several processes it applies to each.
    """

    steps: int | None = Field(
        default=None,
        ge=1,
        le=_MAX_STEPS,
        description="number of steps. The learning rate warms up over the first and decays linearly to a tenth. "
        f"Default: {_EPOCHS} epochs over the forget set, at least {MIN_STEPS} and at most {_MAX_STEPS} steps",
    )
    forget_batch_size: int = Field(default=8, ge=1, le=256, description="forget pairs in a step")
    retain_batch_size: int = Field(default=12, ge=1, le=256, description="retain pairs in a step")
    micro_batch_size: int = Field(
        default=16, ge=1, le=256, description="pairs in one pass: larger is faster and takes more memory"
    )
    learning_rate: float = Field(default=5e-4, gt=0, le=0.1, description="AdamW's, times the schedule's factor")
    warmup_steps: int = Field(default=5, ge=0, le=1000, description="steps over which the learning rate rises")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's, on the adapter")
    forget_weight: float = Field(default=1.0, gt=0, le=100, description="alpha: weight of the forget term")
    retain_weight: float = Field(default=1.0, ge=0, le=100, description="beta: weight of the retain term")
    gradient_clip: float | None = Field(default=1.0, gt=0, description="maximum gradient norm of an update")
    gradient_checkpointing: bool = Field(
        default=False, description="recomputes layers in the backward pass: slower, with less memory"
    )
    fp8: bool = Field(
        default=False, description="products with frozen weights in fp8 in training: faster on recent accelerators"
    )

    @property
    def teacher_batch_size(self) -> int:
        """Examples in one pass of the teacher, which stores no activations for gradients."""
        return 2 * self.micro_batch_size

    def steps_for(self, forget_pairs: int) -> int:
        """The number of steps of a run on so many forget pairs."""
        needed = -(-_EPOCHS * forget_pairs // self.forget_batch_size)
        return self.steps or min(max(MIN_STEPS, needed), _MAX_STEPS)

    def weighed_steps(self, forget_pairs: int) -> int:
        """The same at the default batch sizes: a step of twice as many pairs counts as two. Rounded up."""
        fields = type(self).model_fields
        usual: int = fields["forget_batch_size"].default + fields["retain_batch_size"].default
        return -(-self.steps_for(forget_pairs) * (self.forget_batch_size + self.retain_batch_size) // usual)
