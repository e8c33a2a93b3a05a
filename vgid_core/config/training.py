"""The training loop, and when it may end early."""

from __future__ import annotations

from pydantic import Field

from vgid_core.config.strict import Strict

_FEWEST_STEPS = 96
# Of each forget pair, where nobody says how many steps: shown twice, others are harmed (docs/research/log.md).
_TIMES_SHOWN = 3
_MOST_STEPS = 5000


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
