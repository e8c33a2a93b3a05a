"""How the teacher's view of a forget item is disturbed: settings, without torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vgid_core.strict import Strict

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

    `strength` is required by no kind and allowed only where STRENGTHS names a range.
    """

    kind: PerturbationKind = Field(default="uniform", description="what is done to the image")
    strength: float | None = Field(
        default=None,
        description="gaussian: deviation as a share of the pixel range, 0.01 to 4; diffusion: step of 1000; blur: "
        "radius in pixels, 0.5 to 64; patch_shuffle: patches a side, 2 to 64",
    )

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
