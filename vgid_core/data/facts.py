"""What an answer tells: the one thing that an attacker asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.data.readers.source import jsonl_file
from vgid_core.data.text_normalization import alike, halves, words


@dataclass(frozen=True)
class Fact:
    """One thing that a pair's answer holds, as it stands there."""

    pair: Pair = field(repr=False)
    text: str = field(repr=False)

    @property
    def begun(self) -> str:
        """The answer up to the fact."""
        return self.pair.answer[: self.pair.answer.index(self.text)].rstrip()

    def is_in(self, said: str) -> bool:
        """Whether the fact was said."""
        return alike(self.text) in alike(said)

    def untold(self, told: str) -> list[str]:
        """Its words that aren't whole in `told`, its beginning."""
        heard, every = words(told), words(self.text)
        whole = len(heard) - (heard[-1:] != every[len(heard) - 1 : len(heard)])
        return every[whole:]

    def goes_on(self, told: str, said: str) -> bool:
        """Whether a word of it that wasn't whole in `told`, its beginning, was said from there on."""
        from_the_last = max(0, len(words(told)) - 1)  # which may go on: "Del", "phine"
        more = {*words(said), *words(told + said)[from_the_last:]}
        return not more.isdisjoint(self.untold(told))


def read_facts(source: str, pairs: PairSet) -> tuple[Fact, ...]:
    """A fact a pair of the set that was read from `source`: what a JSONL line names as "fact", if it does.

    Raises DataError naming the line whose fact isn't part of its answer.
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
    """The later half of the answer (`words.halves`), without what ends a sentence."""
    text = halves(pair.answer)[1].rstrip(" .!?\n。！？")
    return Fact(pair, text or pair.answer)
