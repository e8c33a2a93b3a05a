"""Forgotten pairs that say what of their answer matters, for attacks that want to have it back."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgid_core.commands.sources import read_jsonl
from vgid_core.data import DataError, Pair


@dataclass(frozen=True)
class FactPair:
    """A pair and the part of its answer that matters."""

    pair: Pair
    fact: str


def read_facts(path: str) -> list[FactPair]:
    """The lines of a JSONL file that hold a "fact". Raises DataError naming the line."""
    pairs = read_jsonl(path, "facts").pairs
    lines = [line for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]
    found = []
    for number, (pair, line) in enumerate(zip(pairs, lines, strict=True)):
        fact = json.loads(line).get("fact")
        if fact is None:
            continue
        if not isinstance(fact, str) or not fact.strip() or fact not in pair.answer:
            raise DataError("is no part of the line's answer", f"facts[{number}].fact")
        found.append(FactPair(pair, fact))
    if not found:
        raise DataError('has no line with a "fact"', "facts")
    return found


def taught_and_asked(facts: Sequence[FactPair], seed: int) -> tuple[list[FactPair], list[FactPair]] | None:
    """Halves for relearning: pairs to fine-tune on, and pairs whose facts no taught answer holds.

    A fact that stands in other facts' answers (a name, mostly) can only be taught. None when there are too few facts.
    """
    distinct = {item.fact for item in facts}
    spread = {
        fact
        for fact in distinct
        if any(item.fact != fact and fact.lower() in item.pair.answer.lower() for item in facts)
    }
    choices = sorted(distinct - spread)
    random.Random(seed).shuffle(choices)
    hidden = set(choices[: len(choices) // 2])
    taught = [item for item in facts if item.fact not in hidden]
    asked = [item for item in facts if item.fact in hidden]
    return (taught, asked) if taught and asked else None
