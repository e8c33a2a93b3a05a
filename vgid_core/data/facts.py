"""Facts: the part of an answer that an attacker wants back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.data.readers.source import jsonl_file
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


def read_facts(source: str, pairs: PairSet) -> tuple[Fact, ...]:
    """One fact for each pair of the set that was read from `source`.

    A JSONL line can name its fact as "fact". Any other pair's fact is the second half of its answer. Raises DataError,
    naming the line, for a fact that isn't part of the answer.
    """
    path = jsonl_file(source)
    if path is None:
        return tuple(map(second_half, pairs))
    lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    facts = []
    for index, (line, pair) in enumerate(zip(lines, pairs, strict=True)):
        named = json.loads(line).get("fact")
        if named is None:
            facts.append(second_half(pair))
        elif isinstance(named, str) and named and named in pair.answer:
            facts.append(Fact(pair, named))
        else:
            raise DataError("isn't part of the answer", f"{pairs.name}[{index}].fact")
    return tuple(facts)


def second_half(pair: Pair) -> Fact:
    """The second half of the answer as a fact, without the punctuation that ends a sentence."""
    text = split_in_half(pair.answer)[1].rstrip(" .!?\n。！？")
    return Fact(pair, text or pair.answer)
