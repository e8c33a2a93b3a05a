"""How the teacher's view of a forget item is disturbed: settings, without torch."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from vgid_core.config.strict import Strict

PerturbationKind = Literal["uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank", "none"]

# What `strength` means for each kind, its range, and the value taken when none is given.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "gaussian": (0.01, 4.0, 0.5),  # standard deviation, as a share of the pixel range
    "diffusion": (1, 1000, 500),  # step of a 1000-step linear-beta diffusion schedule
    "blur": (0.5, 64.0, 8.0),  # radius in pixels
    "patch_shuffle": (2, 64, 8),  # patches along each side
}


class PerturbationConfig(Strict):
    """How the teacher's image is disturbed, in image space before the processor normalises it.

    Strengths are required by no kind and allowed only where STRENGTHS names a range.
    """

    kind: PerturbationKind = Field(default="uniform", description="what is done to the image")
    strength: float | None = Field(
        default=None,
        description="gaussian: deviation as a share of the pixel range, 0.01 to 4; diffusion: step of 1000; blur: "
        "radius in pixels, 0.5 to 64; patch_shuffle: patches a side, 2 to 64",
    )
    final_strength: float | None = Field(
        default=None, description="strength of the last step, where it changes during the run"
    )
    course: Literal["linear", "cosine"] = Field(
        default="linear", description="how it gets there: evenly, or slowly at both ends (half a cosine)"
    )

    @model_validator(mode="after")
    def _strengths_fit_kind(self) -> Self:
        bounds = STRENGTHS.get(self.kind)
        for given in (self.strength, self.final_strength):
            if given is None:
                continue
            if bounds is None:
                raise ValueError(f"perturbation '{self.kind}' takes no strength")
            if not bounds[0] <= given <= bounds[1]:
                raise ValueError(f"strength of '{self.kind}' must lie in [{bounds[0]}, {bounds[1]}]")
        return self

    def at(self, progress: float) -> PerturbationConfig:
        """What holds at this point of the run, from 0 at its first step to 1 at its last: of one strength."""
        start, end = self.effective_strength, self.final_strength
        if start is None or end is None:
            return self
        share = progress if self.course == "linear" else (1 - math.cos(math.pi * progress)) / 2
        between = (1 - share) * start + share * end
        # Rounding may lead a hair out of the range.
        return PerturbationConfig(kind=self.kind, strength=min(max(between, min(start, end)), max(start, end)))

    @property
    def changes(self) -> bool:
        """Whether its strength is another one in each step."""
        return self.final_strength is not None

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
