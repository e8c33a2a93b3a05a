"""What a method asks of a step: lessons for the student, and what their loss is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vgid_core.data import EncodedImage, Pair

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Role = Literal["forget", "retain"]
Per = Literal["token", "pair"]


Shown: TypeAlias = "EncodedImage | Image.Image"


@dataclass(frozen=True)
class Lesson:
    """What the student answers, and what the teacher is shown instead: an image, a question, an answer's beginning.

    A retain lesson shows the teacher the pair itself. `heard` are the answer's tokens as the teacher reads them while
    it says what comes next: as many as the answer has, its end of turn among them; None for the answer's own.
    """

    pair: Pair
    shown: Shown
    asked: str = field(repr=False)
    heard: tuple[int, ...] | None = field(default=None, repr=False)

    @classmethod
    def retain(cls, pair: Pair) -> Lesson:
        """Teacher and student both on the clean item."""
        return cls(pair, pair.image, pair.question)


@dataclass(frozen=True)
class Part:
    """One summand of a term's loss: its weight, and whether it is a mean over answer tokens or over pairs."""

    weight: float
    per: Per = "token"


@dataclass(frozen=True)
class Term:
    """Lessons and the loss on them, in parts that share one pass.

    `values` gives a tensor for each part, for some of the lessons: a summand an answer token or a pair, as the part
    says. The loss is the parts' weighted means over all lessons of the term; how many are computed at once changes
    nothing.
    """

    role: Role
    lessons: Sequence[Lesson]
    parts: Sequence[Part]
    values: Callable[[Sequence[Lesson]], Sequence[Tensor]]

    @classmethod
    def of(
        cls,
        role: Role,
        lessons: Sequence[Lesson],
        weight: float,
        values: Callable[[Sequence[Lesson]], Tensor],
        per: Per = "token",
    ) -> Term:
        """A term of one part."""
        return cls(role, lessons, [Part(weight, per)], lambda some: [values(some)])


# The terms that one optimiser step sums up.
Update = Sequence[Term]
# A step's updates, in their order, from its forget batch and its retain batch.
Updates = Callable[[Sequence[Pair], Sequence[Pair]], Sequence[Update]]
