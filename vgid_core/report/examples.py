"""Answers before and after, with every word of them covered unless its owner asks for them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_COVER = "█"


@dataclass(frozen=True)
class Example:
    """A question with the true answer, and what the model said before and after."""

    question: str = field(repr=False)
    answer: str = field(repr=False)
    before: str = field(repr=False)
    after: str = field(repr=False)

    def covered(self) -> Example:
        """The same with the letters of the true answer's words covered, wherever they stand."""
        own = {word.casefold() for word in re.findall(r"\w+", self.answer)}

        def cover(text: str) -> str:
            return re.sub(
                r"\w+", lambda found: _COVER * len(found[0]) if found[0].casefold() in own else found[0], text
            )

        return Example(self.question, cover(self.answer), cover(self.before), cover(self.after))
