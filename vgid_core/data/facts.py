"""Facts: the part of an answer that an attacker wants back."""

from __future__ import annotations

from dataclasses import dataclass, field

from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import normalized, split_in_half, words


@dataclass(frozen=True)
class Fact:
    """A substring of a pair's answer, such as a name or a place."""

    pair: Pair = field(repr=False)
    text: str = field(repr=False)

    @property
    def prefix(self) -> str:
        """The answer's text before the fact."""
        return self.pair.answer[: self.pair.answer.index(self.text)].rstrip()

    def is_in(self, text: str) -> bool:
        """Whether the text holds the fact, both normalized."""
        return normalized(self.text) in normalized(text)

    def missing_words(self, beginning: str) -> list[str]:
        """The fact's words that `beginning`, the first characters of the fact, doesn't hold whole."""
        given, every = words(beginning), words(self.text)
        whole = len(given) - (given[-1:] != every[len(given) - 1 : len(given)])
        return every[whole:]

    def is_continued(self, beginning: str, continuation: str) -> bool:
        """Whether `continuation` adds a word of the fact, whose first characters are `beginning`."""
        last_word = max(0, len(words(beginning)) - 1)  # the continuation may complete it: "Del", "phine"
        added = {*words(continuation), *words(beginning + continuation)[last_word:]}
        return not added.isdisjoint(self.missing_words(beginning))


def fact_of(pair: Pair) -> Fact:
    """The pair's own fact, or the second half of its answer without the punctuation that ends a sentence."""
    if pair.fact is not None:
        return Fact(pair, pair.fact)
    text = split_in_half(pair.answer)[1].rstrip(" .!?\n。！？")
    return Fact(pair, text or pair.answer)
