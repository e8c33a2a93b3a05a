"""Settings of the perturbation of the teacher's image."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from vgid_core.config.strict import Strict

PerturbationKind = Literal["uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank", "none"]

# Range and default of `strength` by kind: (minimum, maximum, default).
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "gaussian": (0.01, 4.0, 0.5),  # standard deviation, as a share of the pixel range
    "diffusion": (1, 1000, 500),  # step of a 1000-step linear-beta diffusion schedule
    "blur": (0.5, 64.0, 8.0),  # radius in pixels
    "patch_shuffle": (2, 64, 8),  # patches along each side
}


class PerturbationConfig(Strict):
    """The perturbation of the teacher's image, in pixel space before the processor normalises it.

    No kind requires a strength; the kinds uniform, blank and none take none.
    """

    kind: PerturbationKind = Field(default="uniform", description="type of perturbation")
    strength: float | None = Field(
        default=None,
        description="gaussian: standard deviation as a share of the pixel range, 0.01 to 4; diffusion: step of 1000; "
        "blur: radius in pixels, 0.5 to 64; patch_shuffle: patches along each side, 2 to 64",
    )
    final_strength: float | None = Field(
        default=None, description="strength of the last step, if it changes during the run"
    )
    course: Literal["linear", "cosine"] = Field(
        default="linear", description="course from strength to final_strength: linear, or half a cosine"
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
        """The perturbation at a point of the run, with one strength. progress: 0 at the first step, 1 at the last."""
        start, end = self.effective_strength, self.final_strength
        if start is None or end is None:
            return self
        share = progress if self.course == "linear" else (1 - math.cos(math.pi * progress)) / 2
        between = (1 - share) * start + share * end
        # Clamped, since rounding can exceed the range.
        return PerturbationConfig(kind=self.kind, strength=min(max(between, min(start, end)), max(start, end)))

    @property
    def is_scheduled(self) -> bool:
        """Whether the strength changes from step to step."""
        return self.final_strength is not None

    @property
    def replaces_image(self) -> bool:
        """Whether nothing of the image is left, so that one draw serves all images of one size."""
        return self.kind in ("uniform", "blank")

    @property
    def is_random(self) -> bool:
        """Whether each draw is different."""
        return self.kind not in ("blur", "blank", "none")

    @property
    def effective_strength(self) -> float | None:
        """The given strength, or the kind's default; None for kinds without a strength."""
        if self.kind not in STRENGTHS:
            return None
        return self.strength if self.strength is not None else STRENGTHS[self.kind][2]
