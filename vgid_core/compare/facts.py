"""The facts that attacks ask for: named in the data, else the second half of each answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vgid_core.data import DataError, Pair, PairSet
from vgid_core.facts import Fact
from vgid_core.readers.source import jsonl_file
from vgid_core.words import alike, halves


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


def taught_and_asked(facts: Sequence[Fact]) -> tuple[list[Pair], list[Fact]]:
    """Two halves for a relearning attack: pairs to be taught again, and facts that none of their answers holds.

    Distinct facts take turns in the order in which they first come; one that a taught answer holds is asked by nobody.
    """
    distinct = list(dict.fromkeys(fact.text for fact in facts))
    taught_facts = set(distinct[::2])
    taught = [fact.pair for fact in facts if fact.text in taught_facts]
    told = {alike(pair.answer) for pair in taught}
    others = [fact for fact in facts if fact.text not in taught_facts]
    open_facts = {text for text in distinct[1::2] if not any(alike(text) in answer for answer in told)}
    return taught, [fact for fact in others if fact.text in open_facts]
