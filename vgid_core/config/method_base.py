"""What the settings of all methods have."""

from __future__ import annotations

from typing import ClassVar

from vgid_core.config.strict import Strict


class Method(Strict):
    """Settings of one method. title: the method's name in manifests."""

    title: ClassVar[str]

    name: str

    @property
    def texts(self) -> dict[str, str]:
        """The settings that are texts for the model, by key."""
        return {}

    @property
    def extra_forget_pairs(self) -> int:
        """The number of forget pairs that a step adds to the forget batch."""
        return 0

    @property
    def extra_retain_pairs(self) -> int:
        """The number of retain pairs that a step adds to the retain batch."""
        return 0

    def teacher_passes(self, steps: int, drawn: int, forget_pairs: int) -> int:  # noqa: ARG002 - some methods use them
        """The number of decoder passes of the base over inputs other than the sets' own pairs, in a whole run.

        drawn: the number of forget pairs in all batches of the run.
        """
        return 0

    def trainable_layers(self, layers: int) -> int:
        """The number of decoder layers, from the first, that the loss can train. The layers above get no adapter."""
        return layers
