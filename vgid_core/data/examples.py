"""What is distilled: a pair for the student, and what the teacher reads in its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vgid_core.data.pairs import EncodedImage, Pair

if TYPE_CHECKING:
    from PIL import Image

TeacherImage: TypeAlias = "EncodedImage | Image.Image"
Side = Literal["student", "teacher"]


@dataclass(frozen=True)
class DistillExample:
    """One answer that the student gives to `pair`, and that the teacher scores on an image and question of its own.

    teacher_image: an encoded image has a digest, by which what the base computes from it can be kept.
    teacher_prefix: tokens that the teacher reads in the answer's place while it says what comes next, as many as the
    answer has, its end of turn among them; None for the answer's own.
    """

    pair: Pair
    teacher_image: TeacherImage
    teacher_question: str = field(repr=False)
    teacher_prefix: tuple[int, ...] | None = field(default=None, repr=False)

    @classmethod
    def same_for_both(cls, pair: Pair) -> DistillExample:
        """Teacher and student both read the pair itself."""
        return cls(pair, pair.image, pair.question)

    def image(self, side: Side) -> TeacherImage:
        """What this side sees."""
        return self.pair.image if side == "student" else self.teacher_image

    def question(self, side: Side) -> str:
        """What this side is asked."""
        return self.pair.question if side == "student" else self.teacher_question

    def prefix(self, side: Side) -> tuple[int, ...] | None:
        """The tokens that this side reads in the answer's place; None for the answer's own."""
        return None if side == "student" else self.teacher_prefix


def same_for_both(pairs: Iterable[Pair]) -> list[DistillExample]:
    """Examples in which teacher and student both read the pairs themselves."""
    return [DistillExample.same_for_both(pair) for pair in pairs]


def pairs_of(examples: Sequence[DistillExample]) -> list[Pair]:
    """What the student answers."""
    return [example.pair for example in examples]
