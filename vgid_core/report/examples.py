"""Answers before and after, with every word of the forgotten covered unless its owner asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_COVER = "███"  # of one length, since a word's own could give it away
_BEGINNING = 4  # letters; words that begin alike are covered, too: "Bramcliffe" for "Bramcliff"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Example:
    """A question with the true answer, and what the model said before and after."""

    question: str = field(repr=False)
    answer: str = field(repr=False)
    before: str = field(repr=False)
    after: str = field(repr=False)

    def covered(self, secrets: Iterable[str]) -> Example:
        """The same with a block for each word that stands in `secrets`, or begins as one, wherever it stands.

        secrets: all true answers, names and facts of the request, and not this example's alone: a model can say of one
        what is true of another.
        """
        words = {word.casefold() for text in (*secrets, self.answer) for word in _WORD.findall(text)}
        beginnings = tuple(word[:_BEGINNING] for word in words if len(word) >= _BEGINNING)

        def block(found: re.Match[str]) -> str:
            word = found[0].casefold()
            return _COVER if word in words or word.startswith(beginnings) else found[0]

        texts = (_WORD.sub(block, text) for text in (self.question, self.answer, self.before, self.after))
        return Example(*texts)
