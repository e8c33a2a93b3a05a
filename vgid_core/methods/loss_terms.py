"""The interface between methods and the training loop: examples and the loss on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["forget", "retain"]
Per = Literal["token", "pair"]


@dataclass(frozen=True)
class LossPart:
    """One summand of a term's loss: its weight, and whether it is a mean over answer tokens or pairs."""

    weight: float
    per: Per = "token"


@dataclass(frozen=True)
class LossTerm:
    """Examples and the loss on them, in parts that share one forward pass.

    values: computes one tensor for each part on some of the examples, [answer tokens] or [pairs]. The loss is the sum
    of the parts' weighted means over all examples of the term, so the micro-batch size doesn't change it.
    """

    role: Role
    examples: Sequence[DistillExample]
    parts: Sequence[LossPart]
    values: Callable[[Sequence[DistillExample]], Sequence[Tensor]]

    @classmethod
    def of(
        cls,
        role: Role,
        examples: Sequence[DistillExample],
        weight: float,
        values: Callable[[Sequence[DistillExample]], Tensor],
        per: Per = "token",
    ) -> LossTerm:
        """A term with one part."""
        return cls(role, examples, [LossPart(weight, per)], lambda some: [values(some)])


# The terms whose sum one optimiser step minimises.
Update = Sequence[LossTerm]
# Makes a training step's updates, in order, from its forget batch and its retain batch.
MakeUpdates = Callable[[Sequence[Pair], Sequence[Pair]], Sequence[Update]]
